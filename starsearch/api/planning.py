"""`plan_study`: from a pilot of a few candidates, the cheapest proxy to be trusted, and what the study will cost."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.run import check_batch, check_resolutions, open_dataset, run_fidelities
from starsearch.api.study_folder import StudyPlace, as_begun, database_url, make_folder
from starsearch.errors import SpecError, StudyError
from starsearch.families.family import presets
from starsearch.objective import Objective
from starsearch.recipe import Fidelity, Recipe
from starsearch.records.table import load_trials, study_names
from starsearch.report.agreement import compare_fidelities
from starsearch.resolution import Resolution, area
from starsearch.search.compute import Compute
from starsearch.study.recipe_file import load_recipe
from starsearch.study.runner_file import RayRunner, Runner, load_runner
from starsearch.study.spec import StudySpec
from starsearch.study.study_file import load_specs
from starsearch.study.validation import runner_settings
from starsearch.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.api.run import View
    from starsearch.data import DataSet

_FEWEST = 5  # candidates; a rank correlation of fewer is worth nothing
# Nothing is timed in a pilot: how much a network costs is known without, and all its time goes into accuracy.
OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))
_TAUS = ("overall", "in_bands", "best_tenth", "num_params")
_SMALL_IMAGES = 64  # pixels a side at most
_SHIPPED = ("proxy", "digits", "imagenet-proxy")  # recipes by which short trainings rank, as far as that is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pilot has found.

    Attributes:
        folder: holds the pilot's record and plan.csv; the same call resumes the pilot there.
        top: the name of the fidelity that counts as the truth.
        candidates: how many the pilot has, anchors included.
        proxies: as plan.csv, a row a proxy, the cheapest first.
        chosen: the cheapest whose τ is high enough; None where none is.
        costs: a row a fidelity of the study, with the chosen proxy or its own: whole trainings, of which halving (but
            not with the sampler auto) needs fewer than there are candidates, seconds of each, and whether the pilot
            measured them.
        workers: evaluations at a time; None where it is not known.
    """

    folder: Path
    top: str
    candidates: int
    proxies: pd.DataFrame
    chosen: Fidelity | None
    costs: pd.DataFrame
    workers: int | None
    is_complete: bool

    @property
    def hours(self) -> float:
        """How long the whole study takes one worker."""
        return float((self.costs["trainings"] * self.costs["seconds"]).sum()) / 3600

    @property
    def days(self) -> float:
        """How long it takes all workers; a fidelity with fewer candidates than workers leaves some idle."""
        rounds = (self.costs["trainings"] / (self.workers or 1)).map(math.ceil)
        return float((rounds * self.costs["seconds"]).sum()) / 86_400


def plan_study(
    file: str,
    *,
    data: str | None = None,
    pilot: int = 12,
    tau: float = 0.7,
    top: str | None = None,
    resolutions: Sequence[Resolution] | None = None,
    epochs: Sequence[int] | None = None,
    samples: Sequence[int] | None = None,
    recipes: Sequence[str] | None = None,
    runner: str | None = None,
    workers: int | None = None,
    out: Path = Path("studies"),
    name: str | None = None,
    seed: int | None = None,
    time_budget_s: float | None = None,
    settings: Sequence[str] = (),
    view: View | None = None,
) -> Plan:
    """Train a pilot at the top fidelity and by cheaper proxies, and say which of these rank as it does; or resume it.

    Options are those of `starsearch plan` and `run`. Without `resolutions`, `epochs`, `samples` and `recipes` the grid
    is the study's own proxy, with half its epochs and half its samples, and where its recipe is none of the shipped
    ones for proxies, also that one of them that is for such images. A study's changes are of its own recipe alone.
    """
    deadline = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
    of_study, of_runner = runner_settings(settings)
    where = load_runner(runner, of_runner)
    specs = load_specs(file, name=name, data=data, seed=seed, settings=of_study, has_gpu=where.has_gpu)
    dataset = open_dataset(specs)
    own = _fidelity(specs[0].fidelity, specs[0], dataset)
    by_name = {name: load_recipe(name, beside=Path(file).parent) for name in recipes or _recipes_for(own)}
    by_name = {one: specs[0].recipe if one == own.recipe else recipe for one, recipe in by_name.items()}
    grid = _grid(own, specs[0], dataset, resolutions, epochs, samples, by_name)
    found = next((spec for spec in specs if spec.fidelity.name == top), specs[-1] if top is None else None)
    if found is None:
        names = ", ".join(spec.fidelity.name for spec in specs)
        raise SpecError(f"The study has no fidelity {top!r}; it has {names}. Name one with --top.")
    steps = _pilot_studies(specs, found, [*grid, own], {**by_name, own.recipe: specs[0].recipe}, dataset, pilot)
    planned = {step.name: _draw_pilot(step, pilot) for step in steps}
    folder = make_folder(out, f"{specs[0].name}-plan")
    place = StudyPlace(name=steps[0].name, url=database_url(folder), folder=folder)
    is_complete = True
    for _, ended in run_fidelities(
        as_begun(steps, place.url),
        place,
        dataset,
        _with_resources_of_proxy(where, specs[0], steps),
        command=f"starsearch plan {Path(file).name}",
        deadline=deadline,
        view=view,
        planned=planned,
    ):
        is_complete &= ended.why == "complete"
        if ended.why == "interrupted":
            break
    trials = [_complete_trials(place, step.name) for step in steps]
    proxies = _compare(steps, trials, own, tau)
    fidelities = {step.fidelity.name: step.fidelity for step in steps[1:]}
    chosen = next((fidelities[name] for name in proxies.loc[proxies["chosen"], "fidelity"]), None)
    proxies = proxies.drop(columns="fidelity")
    if len(proxies):
        proxies.to_csv(folder / "plan.csv", index=False)
    return Plan(
        folder=folder,
        top=steps[0].fidelity.name,
        candidates=len(trials[0]),
        proxies=proxies,
        chosen=chosen,
        costs=_costs(specs, steps, trials, dataset, chosen),
        workers=where.workers if workers is None else workers,
        is_complete=is_complete,
    )


def _grid(
    own: Fidelity,
    first: StudySpec,
    dataset: DataSet,
    resolutions: Sequence[Resolution] | None,
    epochs: Sequence[int] | None,
    samples: Sequence[int] | None,
    recipes: Mapping[str, Recipe],
) -> list[Fidelity]:
    """Return every combination, of numbers of images that are not given only those that fill a recipe's batch."""
    if wrong := [number for number in epochs or () if number > 10_000]:
        raise SpecError(f"--epochs must lie between 1 and 10,000; got {wrong[0]}.")
    assert own.epochs is not None
    assert own.samples is not None
    options = itertools.product(
        resolutions or (own.resolution,),
        epochs or (max(1, own.epochs // 2), own.epochs),
        samples or (own.samples // 2, own.samples),
        recipes,
    )
    changed = (
        replace(own, resolution=pixels, epochs=number, samples=images, recipe=recipe)
        for pixels, number, images, recipe in options
        if samples or images >= max(recipes[recipe].batch_size, len(dataset.classes))
    )
    return [_fidelity(one.shaped(first.space.resolution), first, dataset) for one in changed]


def _recipes_for(own: Fidelity) -> list[str]:
    """Return a proxy's recipe, and the shipped one for its images if it is none of these."""
    shipped = "proxy" if area(own.resolution) <= _SMALL_IMAGES**2 else "imagenet-proxy"
    return [own.recipe] if own.recipe in _SHIPPED else [own.recipe, shipped]


def _fidelity(given: Fidelity, spec: StudySpec, dataset: DataSet) -> Fidelity:
    """Return a fidelity with its numbers said, named by them."""
    epochs, samples = given.epochs or spec.recipe.epochs, min(given.samples or dataset.num_train, dataset.num_train)
    recipe = Path(given.recipe).with_suffix("").as_posix().strip("./").replace("/", "-")
    other = "" if given.recipe == spec.fidelity.recipe else f"-{recipe}"
    return replace(given, name=f"{given.resolution}px-{epochs}e-{samples}{other}", epochs=epochs, samples=samples)


def _pilot_studies(
    specs: Sequence[StudySpec],
    top: StudySpec,
    proxies: Sequence[Fidelity],
    recipes: Mapping[str, Recipe],
    dataset: DataSet,
    pilot: int,
) -> list[StudySpec]:
    """Return a study of the pilot at the top fidelity, then one at each cheaper proxy."""
    first, most = specs[0], _work(top.fidelity, top, dataset)
    if not any(_work(one, first, dataset) < most for one in proxies[:-1]):
        raise SpecError(
            f"No proxy of the grid is cheaper than {top.fidelity.name!r}: give smaller --resolutions, --epochs or "
            "--samples, or the study a more expensive fidelity."
        )
    base = replace(
        first,
        data=dataset.name,
        objectives=OBJECTIVES,
        constraints=(),
        profiles={},
        profile_files={},
        halving=None,
        promotion=None,
        anchor_recipes=0,
        baselines=(),
        keep_weights="none",
        trials=pilot,
    )
    cheaper = {one: None for one in proxies if _work(one, first, dataset) < most}
    steps = [replace(base, name=f"{first.name}-plan", fidelity=top.fidelity, recipe=top.recipe, space=top.space)]
    cheapest_first = sorted(cheaper, key=lambda one: _work(one, first, dataset))
    steps += [
        replace(base, name=f"{first.name}-plan.{one.name}", fidelity=one, recipe=recipes[one.recipe])
        for one in cheapest_first
    ]
    for step in steps:
        check_batch(step, dataset)
        check_resolutions(step, dataset)
    return steps


def _draw_pilot(step: StudySpec, count: int) -> list[Trial]:
    """Return the same random candidates for every fidelity."""
    if count + len(step.space.anchors) < _FEWEST:
        raise StudyError(f"A pilot must have at least {_FEWEST} candidates, anchors included; raise --pilot.")
    rng = random.Random(f"pilot {step.seed}")  # noqa: S311 — sampling, not secrets
    anchors = {presets()[name] for name in step.space.anchors}
    found: dict[str, Trial] = {}
    for _ in range(50 * count):
        params = step.space.sample(rng)
        trial = Trial(candidate=step.space.decode(params, step.recipe), params=params)
        if len(found) < count and trial.candidate.architecture not in anchors:
            found.setdefault(trial.key, trial)
    return list(found.values())


def _with_resources_of_proxy(runner: Runner, first: StudySpec, steps: Sequence[StudySpec]) -> Runner:
    """Return the runner with what the study's first fidelity takes for every proxy of the pilot."""
    if not isinstance(runner, RayRunner) or first.fidelity.name not in runner.fidelities:
        return runner
    resources = runner.fidelities[first.fidelity.name]
    fidelities = {**runner.fidelities, **{one.fidelity.name: resources for one in steps[1:]}}
    return runner.model_copy(update={"fidelities": fidelities})


def _complete_trials(place: StudyPlace, name: str) -> pd.DataFrame:
    import pandas as pd

    if name not in study_names(place.url):
        return pd.DataFrame()
    trials = load_trials(place.url, name, folder=place.folder)
    return trials[trials["state"] == "COMPLETE"]


def _compare(steps: Sequence[StudySpec], trials: Sequence[pd.DataFrame], own: Fidelity, tau: float) -> pd.DataFrame:
    """Return a row a proxy, the cheapest first; the first whose τ is high enough is chosen."""
    import pandas as pd

    rows = []
    for step, judged in zip(steps[1:], trials[1:], strict=True):
        found = None if judged.empty or trials[0].empty else compare_fidelities(judged, trials[0], OBJECTIVES)
        if found is None:
            continue
        row = {
            "fidelity": step.fidelity.name,
            "resolution": step.fidelity.resolution,
            "epochs": step.fidelity.epochs,
            "samples": step.fidelity.samples,
            "recipe": step.fidelity.recipe,
            "seconds": round(float(judged["seconds"].mean()), 2),
            "candidates": found.candidates,
            **{f"tau_{name}": round(getattr(found, name).value, 4) for name in _TAUS},
            "tau_overall_low": round(found.overall.low, 4),
            "tau_overall_high": round(found.overall.high, 4),
            "better_than_params": round(found.better_than_params, 3),
            "own": step.fidelity == own,
        }
        rows.append(row)
    rows.sort(key=lambda row: row["seconds"])
    good = [row["tau_overall"] >= tau for row in rows]
    chosen = [is_good and not any(good[:index]) for index, is_good in enumerate(good)]
    columns = ["fidelity", "resolution", "epochs", "samples", "recipe", "seconds", "own"]
    return pd.DataFrame(rows, columns=None if rows else columns).assign(chosen=chosen)


def _costs(
    specs: Sequence[StudySpec],
    steps: Sequence[StudySpec],
    trials: Sequence[pd.DataFrame],
    dataset: DataSet,
    chosen: Fidelity | None,
) -> pd.DataFrame:
    """Return what each fidelity of the study costs: as the pilot measured it, else by the pixels that are seen."""
    import pandas as pd

    measured = {
        replace(step.fidelity, name=""): (float(one["seconds"].mean()), _work(step.fidelity, step, dataset))
        for step, one in zip(steps, trials, strict=True)
        if len(one)
    }
    rows = []
    for spec in specs if measured else ():
        fidelity = chosen if chosen is not None and spec is specs[0] else spec.fidelity
        work = _work(fidelity, spec, dataset)
        seconds, known = measured.get(replace(fidelity, name=""), max(measured.values()))
        rows.append(
            {
                "fidelity": spec.fidelity.name,
                "trainings": spec.trials * _share_trained(spec, fidelity, dataset) + spec.num_anchor_trials,
                "seconds": seconds * work / known,
                "is_measured": replace(fidelity, name="") in measured,
            }
        )
    return pd.DataFrame(rows, columns=["fidelity", "trainings", "seconds", "is_measured"])


def _work(fidelity: Fidelity, spec: StudySpec, dataset: DataSet) -> float:
    """Return the pixels that a training at a fidelity sees."""
    images = min(fidelity.samples or dataset.num_train, dataset.num_train)
    epochs = (fidelity.epochs or spec.recipe.epochs) + spec.recipe.cooldown_epochs
    return float(epochs) * images * area(fidelity.resolution)


def _share_trained(spec: StudySpec, fidelity: Fidelity, dataset: DataSet) -> float:
    """Return the share of a whole training that a searched candidate has on average; one in η leaves each rung.

    The sampler auto trains as many to the end as it finds worth it: all, at most.
    """
    halving = spec.halving
    if halving is None or spec.sampler == "auto":
        return 1.0
    images = min(fidelity.samples or dataset.num_train, dataset.num_train)
    spec = replace(spec, fidelity=replace(fidelity, samples=images))
    rungs = tuple(one for one in halving.rungs if one.epochs < spec.num_epochs)  # a shorter proxy has fewer
    compute, share = Compute(replace(spec, halving=replace(halving, rungs=rungs))), 1 / halving.eta
    return sum(compute.work(rung, rung + 1) * share**rung for rung in range(len(rungs) + 1)) / spec.num_epochs

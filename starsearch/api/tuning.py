"""`tune_recipe`: from an architecture and a recipe space to the best recipe, as a file that `train` takes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.networks import StudyTrial, resolve
from starsearch.api.run import check_batch, data_in_words
from starsearch.api.study import write_study_report
from starsearch.api.study_folder import StudyPlace, database_url, make_folder, point_to_storage
from starsearch.api.training_job import describe_override, describe_trial
from starsearch.data import open_data
from starsearch.data.names import warn_of_left_out
from starsearch.errors import counted
from starsearch.families.text import format_architecture
from starsearch.objective import Objective
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, Recipe
from starsearch.records.record import StudyRecord
from starsearch.study.recipe_file import load_recipe
from starsearch.study.runner_file import LocalRunner, RayRunner, load_runner
from starsearch.study.spec import Halving, Rung, StudySpec
from starsearch.trial import Trial
from starsearch.tuning.space import BASE_RECIPE, describe_changes, load_recipe_space, write_recipe

if TYPE_CHECKING:
    from starsearch.tuning.strategy import Scheduler

BEST_RECIPE = "best-recipe.yaml"
_SMALLER_BATCH = (
    "Write batch_size: {} into a recipe file or the recipe space and give it with --recipe or --space, or give more "
    "with --samples."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOutcome:
    """What a recipe search leaves behind.

    Attributes:
        finished: trials with a result; fewer than wanted where it was interrupted.
        fidelity: at which all were trained, with the epochs.
        best, base: of the best recipe that was trained to the end, and of the base recipe; None where it was not.
        changes: what of the best recipe differs from the base recipe, in words.
        files: tables, picture and page that were written.
    """

    folder: Path
    finished: int
    fidelity: Fidelity
    best: Trial | None
    base: Trial | None
    changes: str
    recipe_file: Path | None
    files: tuple[Path, ...]


def tune_recipe(
    architecture: str,
    *,
    data: str = "digits",
    space: str | None = None,
    recipe: str | None = None,
    fidelity: Mapping[str, Any] | None = None,
    trials: int = 16,
    scheduler: Scheduler = "asha",
    runner: str | None = None,
    name: str | None = None,
    out: Path = Path("studies"),
    storage: str | None = None,
    seed: int = 0,
    watch: Callable[[Progress | Trial, Recipe], None] = lambda _news, _base: None,
    say: Callable[[str], None] = lambda _line: None,
) -> TuneOutcome:
    """Search the recipe by which `architecture` trains best, or resume the search; options as of `starsearch tune`.

    Args:
        fidelity: fields of `Fidelity` that replace the trial's or the defaults; None leaves one as it is.
        watch: called with how far all trainings are and with each ended trial; and the base recipe.
        say: called with what is taken from a trial and what is overridden.
    """
    from starsearch.tuning.search import tune_recipes
    from starsearch.tuning.strategy import ETA, rungs_of

    named = resolve(architecture)
    trial, network = named.trial, named.architecture
    where = _on_ray(runner)
    start, start_name = _base_recipe(architecture, trial, recipe, data)
    given = {name: value for name, value in (fidelity or {}).items() if value is not None}
    if trial is not None:
        kept = {name: getattr(trial.fidelity, name) for name in ("resolution", "stem_stride", "crop_pct")}
        longer = replace(start, epochs=given.get("epochs", start.epochs))
        for line in (
            *describe_trial(architecture, trial, {name: given.get(name) for name in kept}),
            *describe_override(f"--recipe {recipe}", trial.recipe, start),
            *describe_override(f"--epochs {longer.epochs}", start, longer),
        ):
            say(line)
        given = kept | given
    changing = scheduler == "pbt"
    base, found = load_recipe_space(space or ("recipe-pbt" if changing else "recipe"), start, changing=changing)
    spec = StudySpec(
        name=name or _default_name(architecture),
        space=found,
        data=data,
        recipe=base,
        fidelity=Fidelity(**given | {"name": "tune", "recipe": start_name}),
        objectives=(Objective(name="top1_percent", direction="maximize"),),
        trials=trials,
        seed=seed,
        keep_weights="none",
    )
    if scheduler == "asha":
        rungs = tuple(Rung(epochs=epochs) for epochs in rungs_of(spec.num_epochs))
        spec = replace(spec, halving=Halving(eta=ETA, rungs=rungs))
    dataset = open_data(spec.data)
    warn_of_left_out(dataset)
    check_batch(spec, dataset, _SMALLER_BATCH)
    spec = replace(spec, data=dataset.name)
    folder = make_folder(out, spec.name, storage)
    url = storage or database_url(folder)
    conditions = {"data": data_in_words(dataset), "architecture": format_architecture(network), "scheduler": scheduler}
    attributes = {
        "command": f"starsearch tune {Path(architecture).name} --data {shlex.quote(dataset.name)}",
        "sampler": "population based training" if changing else "tpe (Ray Tune's OptunaSearch)",
        "classes": list(dataset.classes),
    }
    with closing(StudyRecord.open(url, spec, conditions=conditions, attributes=attributes)) as record:
        if storage:
            point_to_storage(folder, spec.name, storage)
        finished = tune_recipes(
            record, network, dataset, scheduler, where, folder, watch=lambda news: watch(news, base)
        )
        complete = [trial for trial in record.trials() if trial.state == "complete"]
        untouched = next((trial for trial in complete if trial.candidate.anchor == BASE_RECIPE), None)
        # Of equals the base recipe: it is the simpler.
        order = lambda trial: (trial.values["top1_percent"], trial.is_anchor, -trial.number)  # noqa: E731
        best = max(complete, key=order, default=None)
        recipe_file = None if best is None else _write_best(spec, record, folder, best, untouched)
    return TuneOutcome(
        folder=folder,
        finished=finished,
        fidelity=replace(spec.fidelity, epochs=spec.fidelity.epochs or spec.recipe.epochs),
        best=best,
        base=untouched,
        changes="" if best is None else describe_changes(best.candidate.recipe, base),
        recipe_file=recipe_file,
        files=tuple(write_study_report(StudyPlace(name=spec.name, url=url, folder=folder))),
    )


def _on_ray(runner: str | None) -> RayRunner:
    """Ray Tune trains on Ray: a runner of this machine becomes a cluster of this machine, one worker as many as fit."""
    found = load_runner(runner)
    if isinstance(found, RayRunner):
        return found
    if found.workers == 1:
        workers = max(1, (os.cpu_count() or 1) // (found.threads or 1))
        found = LocalRunner(workers=workers, threads=found.threads or 1, time_limit_s=found.time_limit_s)
    return found.on_ray()


def _base_recipe(architecture: str, trial: StudyTrial | None, recipe: str | None, data: str) -> tuple[Recipe, str]:
    """The recipe to improve on, and what the study calls it."""
    if trial is not None and recipe is None:
        return trial.recipe, Path(architecture).name
    name = recipe or ("digits" if data == "digits" else "proxy")
    return load_recipe(name), Path(name).stem


def _default_name(architecture: str) -> str:
    """As "tune-starnet_s1"; of a trial "tune-NAME-7"; of one line "tune-starnet"."""
    stem, _, rest = architecture.rpartition(":")
    named = f"{Path(stem).name}-{rest}" if rest.isdigit() else architecture.partition(":")[0]
    return f"tune-{Path(named).name.removesuffix('.yaml')}"


def _write_best(spec: StudySpec, record: StudyRecord, folder: Path, best: Trial, base: Trial | None) -> Path:
    """Write the best recipe with where it comes from; return its file."""
    epochs = spec.fidelity.epochs or spec.recipe.epochs
    length, count = counted(epochs, "epoch"), len(record.trials())
    found = f"top-1 {best.values['top1_percent']:.2f} %"
    found += f", the base recipe's {base.values['top1_percent']:.2f} %" if base else ""
    comments = [
        f"The best of {count} trials of the study {spec.name}, trial {best.number}: {found}.",
        f"Trained on {spec.data} at {spec.fidelity.resolution} px for {length}, seed {spec.seed}; once each.",
        *_schedule(spec, (record.attribute("recipe_schedules") or {}).get(str(best.number), ())),
    ]
    path = folder / BEST_RECIPE
    write_recipe(path, replace(best.candidate.recipe, epochs=epochs), base=spec.recipe, comments=comments)
    return path


def _schedule(spec: StudySpec, schedule: Sequence[Mapping[str, Any]]) -> list[str]:
    """By which recipe a member of a population was trained since when; its file holds the last alone."""
    if not schedule:
        return []
    lines = [
        f"  since epoch {part['since']}: "
        + describe_changes(spec.space.decode(part["params"], spec.recipe).recipe, spec.recipe)
        for part in schedule
    ]
    return ["Population Based Training changed it on the way; below is what it ended with:", *lines]

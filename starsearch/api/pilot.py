"""The pilot of `plan_study`: which fidelities are tried, on which candidates, on what resources."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starsearch.api.running import check_batch
from starsearch.errors import SpecError, StudyError
from starsearch.objective import Objective

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.recipe import Fidelity
    from starsearch.search import Below
    from starsearch.study.runner_file import Runner
    from starsearch.study.spec import StudySpec

_FEWEST = 5  # candidates that a rank correlation is worth anything of
# Nothing is timed in a pilot: how much a network costs is known without, and all its time goes into accuracy.
OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Proxies to try: every combination; None keeps what the study's first fidelity has and its half."""

    resolutions: tuple[int, ...] | None = None
    epochs: tuple[int, ...] | None = None
    samples: tuple[int, ...] | None = None


def pilot_steps(
    specs: Sequence[StudySpec], top: StudySpec, grid: Grid, dataset: DataSet, pilot: int
) -> tuple[StudySpec, ...]:
    """The pilot's studies: the top fidelity, then the proxies of the grid and the study's own, from cheap to dear."""
    from starsearch.study.spec import Promotion

    first = specs[0]
    base = replace(
        first,
        data=dataset.name,
        objectives=OBJECTIVES,
        constraints=(),
        profiles={},
        profile_files={},
        halving=None,
        anchor_recipes=0,
        keep_weights="none",
        promotion=Promotion(best=pilot),
    )
    cheaper = [
        fidelity
        for fidelity in _proxies(first, grid, dataset)
        if work_of(fidelity, first, dataset) < work_of(top.fidelity, top, dataset)
    ]
    if not cheaper:
        raise SpecError(
            f"No proxy of the grid is cheaper than {top.fidelity.name!r}: give smaller --resolutions, --epochs or "
            "--samples, or the study a dearer fidelity."
        )
    if first.fidelity.name != top.fidelity.name:
        cheaper.append(own_proxy(first, dataset))
    proxies = [
        replace(base, fidelity=fidelity, name=f"{first.name}-plan.{fidelity.name}")
        for fidelity in dict.fromkeys(cheaper)
    ]
    proxies.sort(key=lambda spec: work_of(spec.fidelity, spec, dataset))
    truth = replace(base, name=f"{first.name}-plan", fidelity=top.fidelity, recipe=top.recipe, space=top.space)
    for spec in (truth, *proxies):
        check_batch(spec, dataset)
    return truth, *proxies


def _proxies(first: StudySpec, grid: Grid, dataset: DataSet) -> list[Fidelity]:
    """The grid's fidelities, by names that tell them apart.

    Raises:
        SpecError: a number is beyond what a study file takes.
    """
    for name, numbers, low, high in (("resolutions", grid.resolutions, 8, 1024), ("epochs", grid.epochs, 1, 10_000)):
        if wrong := [number for number in numbers or () if not low <= number <= high]:
            raise SpecError(f"--{name} lie between {low} and {high:,}; got {wrong[0]}.")
    given = own_proxy(first, dataset)
    epochs, samples = given.epochs or first.recipe.epochs, given.samples or dataset.num_train
    fewest = max(first.recipe.batch_size, len(dataset.classes))
    options = itertools.product(
        grid.resolutions or (given.resolution,),
        grid.epochs or _with_half(epochs),
        grid.samples or [one for one in _with_half(samples) if one >= min(samples, fewest)],
    )
    return [_named(given, resolution, number, images) for resolution, number, images in options]


def own_proxy(first: StudySpec, dataset: DataSet) -> Fidelity:
    """The study's first fidelity with its numbers said, by its name in a pilot."""
    given = first.fidelity
    images = min(given.samples or dataset.num_train, dataset.num_train)
    return _named(given, given.resolution, given.epochs or first.recipe.epochs, images)


def _named(given: Fidelity, resolution: int, epochs: int, images: int) -> Fidelity:
    name = f"{resolution}px-{epochs}e-{images}"
    return replace(given, name=name, resolution=resolution, epochs=epochs, samples=images)


def runner_for_pilot(runner: Runner, first: StudySpec, steps: Sequence[StudySpec]) -> Runner:
    """The runner with what the study's first fidelity takes for every proxy of the pilot."""
    from starsearch.study.runner_file import RayRunner

    if not isinstance(runner, RayRunner) or first.fidelity.name not in runner.fidelities:
        return runner
    resources = runner.fidelities[first.fidelity.name]
    fidelities = {**runner.fidelities, **{one.fidelity.name: resources for one in steps[1:]}}
    return runner.model_copy(update={"fidelities": fidelities})


def _with_half(number: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys((max(1, number // 2), number)))


def draw_pilot(step: StudySpec, count: int) -> Below:
    """The same random candidates for every fidelity."""
    from starsearch.families.family import presets
    from starsearch.search import Below
    from starsearch.search.promoting import Promoted

    if count + len(step.space.anchors) < _FEWEST:
        raise StudyError(f"A pilot has at least {_FEWEST} candidates, anchors included; raise --pilot.")
    rng = random.Random(f"pilot {step.seed}")  # noqa: S311 — sampling, not secrets
    anchors = {presets()[name] for name in step.space.anchors}
    found: dict[str, Promoted] = {}
    for _ in range(50 * count):
        params = step.space.sample(rng)
        candidate = step.space.decode(params, step.recipe)
        if len(found) < count and candidate.architecture not in anchors:
            promoted = Promoted(number=None, candidate=candidate, params=params, weights=None, known=())
            found.setdefault(candidate.key, promoted)
    return Below(ranked=tuple(found.values()), by_key=found)


def work_of(fidelity: Fidelity, spec: StudySpec, dataset: DataSet) -> float:
    """What a training at a fidelity of a study costs, in pixels seen."""
    from starsearch.report.planning import count_work

    images = min(fidelity.samples or dataset.num_train, dataset.num_train)
    epochs = (fidelity.epochs or spec.recipe.epochs) + spec.recipe.cooldown_epochs
    return count_work(epochs=epochs, images=images, resolution=fidelity.resolution)

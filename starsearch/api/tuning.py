"""`tune_recipe`: from an architecture and a recipe space to the best recipe, as a file that `train` takes."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.architectures import StudyTrial, find_architecture, find_trial
from starsearch.api.running import check_samples, largest_batch
from starsearch.api.study import write_study_report
from starsearch.api.study_folder import StudyPlace, database_url, make_folder, point_to_storage
from starsearch.api.training_job import describe_override, describe_trial
from starsearch.errors import DataError
from starsearch.objective import Objective
from starsearch.recipe import Fidelity, Recipe
from starsearch.study.runner_file import RayRunner, Runner, TaskResources, load_runner

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.families.family import Architecture
    from starsearch.records import StudyRecord
    from starsearch.search import StudyEnded
    from starsearch.search.events import Event
    from starsearch.search.tuning import Scheduler
    from starsearch.study.spec import StudySpec

    View = Callable[[StudySpec, Path], AbstractContextManager[Callable[[Event], None]]]

BEST_RECIPE = "best-recipe.yaml"
TUNED = (Objective(name="top1_percent", direction="maximize"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRecipe:
    """A recipe of a search.

    Attributes:
        trial: its number.
        top1_percent: after the whole training.
        changes: what differs from the base recipe, in words.
    """

    trial: int
    top1_percent: float
    changes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOutcome:
    """What a recipe search has left behind.

    Attributes:
        folder: of the study.
        ended: why it stopped, and how far it came.
        architecture: as the user wrote it.
        fidelity: at which all were trained, with the epochs.
        best: the best recipe that was trained to the end; None where none was.
        base: the base recipe, likewise.
        recipe_file: of the best recipe.
        files: tables, picture and page that were written.
    """

    folder: Path
    ended: StudyEnded
    architecture: str
    fidelity: Fidelity
    best: TunedRecipe | None
    base: TunedRecipe | None
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
    view: View | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> TuneOutcome:
    """Search the recipe by which `architecture` trains best, or go on with the search.

    Args:
        architecture: a name, one line, a file, or STUDY:TRIAL, which brings its recipe, resolution, crop and stem.
        data: what `open_data` takes.
        space: recipe-space file or shipped name; None for "recipe", or "recipe-pbt" with that scheduler.
        recipe: the base recipe's file or shipped name, which is the first trial; None for the trial's, else "digits"
            with those, else "proxy".
        fidelity: fields of `Fidelity` in place of the trial's or the defaults; None leaves one as it is.
        trials: recipes with a result that the study shall have, the base recipe among them.
        scheduler: "asha", "pbt" (recipes change while they train) or "none".
        runner: a runner file or shipped name; None for Ray on this machine, or the cluster at RAY_ADDRESS.
        name: of the study; None for "tune-" and the architecture's name.
        out: folder in which the study's folder is made.
        storage: Optuna storage URL; None for study.db in the study's folder.
        seed: of proposals and trainings.
        view: makes what watches the search from the study and its folder.
        say: is told what is taken from a trial and what is overridden.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.data import open_data
    from starsearch.data.names import warn_of_left_out

    trial = find_trial(architecture)
    network = find_architecture(architecture) if trial is None else trial.architecture
    where = _as_ray(load_runner(runner))
    start, start_name = _base_recipe(architecture, trial, recipe, data)
    given = {name: value for name, value in (fidelity or {}).items() if value is not None}
    if trial is not None:
        kept = {name: getattr(trial.fidelity, name) for name in ("resolution", "stem_stride", "crop_pct")}
        for line in describe_trial(architecture, trial, {name: given.get(name) for name in kept}):
            say(line)
        longer = replace(start, epochs=given.get("epochs", start.epochs))
        for line in (
            *describe_override(f"--recipe {recipe}", trial.recipe, start),
            *describe_override(f"--epochs {longer.epochs}", start, longer),
        ):
            say(line)
        given = kept | given
    spec = _make_spec(
        data=data,
        space=space,
        base=start,
        fidelity=Fidelity(**given | {"name": "tune", "recipe": start_name}),
        trials=trials,
        scheduler=scheduler,
        name=name or _default_name(architecture),
        seed=seed,
    )
    dataset = open_data(spec.data)
    warn_of_left_out(dataset)
    check_batches(spec, dataset)
    spec = replace(spec, data=dataset.name)
    folder = make_folder(out, spec.name, storage)
    url = storage or database_url(folder)
    command = f"starsearch tune {Path(architecture).name} --data {shlex.quote(dataset.name)}"
    with closing(_open_record(spec, url, dataset, network, scheduler, command=command)) as record:
        if storage:
            point_to_storage(folder, spec.name, storage)
        with view(spec, folder) if view else nullcontext(lambda _event: None) as watch:
            ended = _search(
                spec, network, dataset, where, scheduler=scheduler, record=record, folder=folder, watch=watch
            )
        best, base, recipe_file = _write_best(spec, record, folder)
    files = write_study_report(StudyPlace(name=spec.name, url=url, folder=folder))
    return TuneOutcome(
        folder=folder,
        ended=ended,
        architecture=architecture,
        fidelity=replace(spec.fidelity, epochs=spec.fidelity.epochs or spec.recipe.epochs),
        best=best,
        base=base,
        recipe_file=recipe_file,
        files=tuple(files),
    )


def _base_recipe(architecture: str, trial: StudyTrial | None, recipe: str | None, data: str) -> tuple[Recipe, str]:
    """The recipe that is to be bettered, and what the study calls it."""
    from starsearch.study.recipe_file import load_recipe

    if trial is not None and recipe is None:
        return trial.recipe, Path(architecture).name
    name = recipe or ("digits" if data == "digits" else "proxy")
    return load_recipe(name), Path(name).stem


def check_batches(spec: StudySpec, dataset: DataSet) -> None:
    """Refuse a batch that the data can never fill, before hours are spent.

    Raises:
        DataError: the recipe or one that is searched has such a batch, or a subset lacks classes.
    """
    from starsearch.data.batches import largest_filled

    check_samples([spec.fidelity.samples], spec.fidelity.validation_samples, dataset)
    batch, images = largest_batch(spec), min(spec.fidelity.samples or dataset.num_train, dataset.num_train)
    if batch > images:
        raise DataError(
            f"A training step takes batch_size {batch} images, but there are {images} of {dataset.name!r} to train on. "
            f"Write batch_size: {largest_filled(images)} into a recipe file or the recipe space and give it with "
            "--recipe or --space, or give more with --samples."
        )


def _make_spec(
    *,
    data: str,
    space: str | None,
    base: Recipe,
    fidelity: Fidelity,
    trials: int,
    scheduler: Scheduler,
    name: str,
    seed: int,
) -> StudySpec:
    from starsearch.search.tuning_search import ETA, rungs_of
    from starsearch.study.spec import Halving, Rung, StudySpec
    from starsearch.study.tuning_file import load_recipe_space

    changing = scheduler == "pbt"
    base, found = load_recipe_space(space or ("recipe-pbt" if changing else "recipe"), base, changing=changing)
    spec = StudySpec(
        name=name,
        space=found,
        data=data,
        recipe=base,
        fidelity=fidelity,
        objectives=TUNED,
        trials=trials,
        seed=seed,
        keep_weights="none",
    )
    if scheduler != "asha":
        return spec
    rungs = tuple(Rung(epochs=epochs) for epochs in rungs_of(spec.num_epochs))
    return replace(spec, halving=Halving(eta=ETA, rungs=rungs))


def _search(
    spec: StudySpec,
    network: Architecture,
    dataset: DataSet,
    runner: RayRunner,
    *,
    scheduler: Scheduler,
    record: StudyRecord,
    folder: Path,
    watch: Callable[[Event], None],
) -> StudyEnded:
    from starsearch.evaluators import ProxyEvaluator
    from starsearch.search.ray_cluster import ask_node, connected, wait_for_room
    from starsearch.search.ray_executor import Requirements
    from starsearch.search.tuning import Workforce, tune_recipes
    from starsearch.search.tuning_worker import SCRATCH, Tuned

    resources = runner.resources_of(spec.fidelity.name)
    with connected(runner):
        wait_for_room(resources, runner)
        looks = ProxyEvaluator(data=dataset, fidelity=spec.fidelity, timed=())
        ask_node(partial(Requirements(folder=str(folder.resolve())).check, looks), resources)
        return tune_recipes(
            spec,
            tuned=Tuned(
                architecture=network,
                data=dataset,
                recipe=spec.recipe,
                space=spec.space,
                fidelity=replace(spec.fidelity, time_limit_s=runner.time_limit_s),
                epochs=spec.num_epochs,
                seed=spec.seed,
                threads=max(1, int(resources.cpu)),
                scratch=folder.resolve() / SCRATCH,
                changing=scheduler == "pbt",
            ),
            scheduler=scheduler,
            record=record,
            workforce=Workforce(resources=resources, workers=runner.workers),
            folder=folder,
            watch=watch,
        )


def _as_ray(runner: Runner) -> RayRunner:
    """Ray Tune trains on Ray: a runner of this machine becomes a cluster of this machine."""
    if isinstance(runner, RayRunner):
        return runner
    return RayRunner(
        address="local",
        resources=TaskResources(cpu=runner.threads or 1),
        workers=runner.workers if runner.workers > 1 else None,
        time_limit_s=runner.time_limit_s,
        tries=runner.tries,
    )


def _default_name(architecture: str) -> str:
    """As "tune-starnet_s1"; of a trial "tune-NAME-7"; of one line "tune-starnet"."""
    stem, _, rest = architecture.rpartition(":")
    named = f"{Path(stem).name}-{rest}" if rest.isdigit() else architecture.partition(":")[0]
    return f"tune-{Path(named).name.removesuffix('.yaml')}"


def _open_record(
    spec: StudySpec, url: str, dataset: DataSet, network: Architecture, scheduler: Scheduler, *, command: str
) -> StudyRecord:
    from starsearch.api.climbing import data_in_words
    from starsearch.families.text import format_architecture
    from starsearch.records import StudyRecord

    signature = spec.describe() | {"data": data_in_words(dataset)}
    signature |= {"architecture": format_architecture(network), "scheduler": scheduler}
    attributes = {
        "command": command,
        "sampler": "population based training" if scheduler == "pbt" else "tpe (Ray Tune's OptunaSearch)",
        "classes": list(dataset.classes),
    }
    return StudyRecord.open(url, spec, signature=signature, attributes=attributes)


def _write_best(
    spec: StudySpec, record: StudyRecord, folder: Path
) -> tuple[TunedRecipe | None, TunedRecipe | None, Path | None]:
    """The best and the base recipe, and the file of the best."""
    from starsearch.records import recorded_candidate
    from starsearch.search.tuning_log import BASE_RECIPE, PARTED
    from starsearch.study.tuning_file import describe_changes, write_recipe

    trials = {trial.number: trial for trial in record.trials()}
    complete = [trial for trial in trials.values() if trial.state.name == "COMPLETE"]

    def describe(trial: Any) -> TunedRecipe:
        changes = describe_changes(recorded_candidate(trial, spec.recipe).recipe, spec.recipe)
        return TunedRecipe(trial=trial.number, top1_percent=trial.values[0], changes=changes)

    base = next((describe(trial) for trial in complete if trial.user_attrs.get("anchor") == BASE_RECIPE), None)
    if not complete:
        return None, base, None
    # Of equals the base recipe: it is the simpler.
    winner = max(complete, key=lambda trial: (trial.values[0], "anchor" in trial.user_attrs, -trial.number))
    best = describe(winner)
    found = recorded_candidate(winner, spec.recipe).recipe
    epochs = spec.fidelity.epochs or spec.recipe.epochs
    comments = [
        f"The best of {len(trials)} trials of the study {spec.name}, trial {best.trial}: top-1 "
        f"{best.top1_percent:.2f} %" + (f", the base recipe's {base.top1_percent:.2f} %" if base else "") + ".",
        f"Trained on {spec.data} at {spec.fidelity.resolution} px for {epochs} epochs, seed {spec.seed}; once each.",
        *_schedule(winner, trials, spec, record.attribute(PARTED) or {}),
    ]
    path = folder / BEST_RECIPE
    write_recipe(path, replace(found, epochs=epochs), base=spec.recipe, comments=comments)
    return best, base, path


def _schedule(winner: Any, trials: dict[int, Any], spec: StudySpec, parted: Mapping[str, Any]) -> list[str]:
    """Of a member of a population, by which recipe it was trained until when; its file holds the last alone."""
    from starsearch.records import recorded_candidate
    from starsearch.study.tuning_file import describe_changes

    lines, trial, until = [], winner, max(winner.intermediate_values)
    while trial is not None:
        origin = parted.get(str(trial.number))
        since = origin["epoch"] + 1 if origin else 1
        changes = describe_changes(recorded_candidate(trial, spec.recipe).recipe, spec.recipe)
        lines.append(f"  epochs {since} to {until}, trial {trial.number}: {changes}")
        trial, until = (trials[origin["from"]], since - 1) if origin else (None, 0)
    if len(lines) == 1:
        return []
    return ["Population Based Training changed it on the way; below is what it ended with:", *reversed(lines)]

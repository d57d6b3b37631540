"""`tune_recipes`: the best recipe of one architecture, searched by Ray Tune and written into a study."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from starsearch.errors import StudyError
from starsearch.records import DRIVER_DIED, StudyRecord, hold_lease, unfinished
from starsearch.search.events import Event, StudyEnded, StudyStarted
from starsearch.search.ray_cluster import as_ray, first_line, room
from starsearch.search.tuning_listener import Listener, StopAll, quiet_ray
from starsearch.search.tuning_log import BASE_RECIPE, TuningLog
from starsearch.search.tuning_search import make_asha, make_population, make_searcher, rungs_of
from starsearch.search.tuning_worker import SCRATCH, RecipeTraining, Tuned
from starsearch.signals import asked_to_stop
from starsearch.study.tuning_file import encode_recipe

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.records import Lease
    from starsearch.study.runner_file import TaskResources
    from starsearch.study.spec import StudySpec

Scheduler = Literal["asha", "pbt", "none"]
Params = Mapping[str, Any]
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Workforce:
    """What trains the recipes.

    Attributes:
        resources: of one training.
        workers: trainings at a time; None for as many as fit.
    """

    resources: TaskResources
    workers: int | None


def tune_recipes(
    spec: StudySpec,
    *,
    tuned: Tuned,
    scheduler: Scheduler,
    record: StudyRecord,
    workforce: Workforce,
    folder: Path,
    watch: Callable[[Event], None] = lambda _event: None,
) -> StudyEnded:
    """Go on with the recipe search of `record` until it has its trials; returns why it ended.

    Ctrl-C ends it cleanly: what is being trained ends as interrupted, and runs again when the search goes on.

    Args:
        spec: of the study; `trials` are those with a result, the base recipe's among them.
        tuned: what all trials have in common.
        scheduler: what stops trainings: successive halving, Population Based Training, or nothing.
        record: of the study.
        workforce: what trains.
        folder: of the study; Ray Tune's files lie in its folder `tune`.
        watch: is told of everything.

    Raises:
        StudyError: every training failed, the storage or the cluster fails; what was recorded is kept.
        StudyLeasedError: another live driver works on the study.
    """
    base = encode_recipe(spec.space, spec.recipe)
    with hold_lease(record) as lease, asked_to_stop() as stop:
        record.fail_running(DRIVER_DIED)
        trials = record.trials()
        finished = _count_finished(trials, scheduler)
        watch(StudyStarted(finished=finished, wanted=spec.trials, resumed=bool(trials)))
        while finished < spec.trials and not stop.is_set():
            log = _run_tune(
                spec,
                tuned=tuned,
                scheduler=scheduler,
                record=record,
                lease=lease,
                workforce=workforce,
                folder=folder,
                base=base,
                missing=spec.trials - finished,
                stop=stop,
                watch=watch,
            )
            before, finished = finished, _count_finished(record.trials(), scheduler)
            if finished == before and not stop.is_set():
                raise StudyError(
                    f"Every training failed, the last with: {log.last_reason}\nFinished trials are kept: narrow the "
                    "recipe space to what can be trained and give the study another --name."
                )
        ended = StudyEnded(
            finished=finished, wanted=spec.trials, why="complete" if finished >= spec.trials else "interrupted"
        )
        watch(ended)
    _clean(folder)
    return ended


def _run_tune(
    spec: StudySpec,
    *,
    tuned: Tuned,
    scheduler: Scheduler,
    record: StudyRecord,
    lease: Lease,
    workforce: Workforce,
    folder: Path,
    base: Params,
    missing: int,
    stop: threading.Event,
    watch: Callable[[Event], None],
) -> TuningLog:
    """Let Ray Tune train `missing` recipes, in the record when it returns."""
    from ray import tune

    trials = record.trials()
    again: list[tuple[int, Params]] = [
        (trial.number, trial.params) for trial in unfinished(trials) if _may_retry(trial, trials)
    ]
    first = [params for _, params in again]
    if base not in first and not _has_base(trials):
        first = [base, *first]
    log = TuningLog(
        spec,
        tuned=tuned,
        record=record,
        lease=lease,
        base=base,
        rungs=_rungs(scheduler, tuned.epochs),
        repeats=again,
        watch=watch,
    )
    listener = Listener(log, stop)
    domains, searcher, stopping = _strategy(
        spec, scheduler, trials=trials, first=first[:missing], base=base, epochs=tuned.epochs
    )
    with quiet_ray():
        trainable = tune.with_resources(
            tune.with_parameters(RecipeTraining, tuned=tuned),
            tune.PlacementGroupFactory([as_ray(workforce.resources)]),
        )
        tuner = tune.Tuner(
            trainable,
            param_space=domains,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=stopping,
                num_samples=missing,
                max_concurrent_trials=workforce.workers or max(1, room(workforce.resources)),
                reuse_actors=True,  # its images stay decoded
                trial_dirname_creator=lambda trial: trial.trial_id,  # Tune's own holds every value
            ),
            run_config=tune.RunConfig(
                name=f"run-{len(trials)}",
                storage_path=str(folder.resolve() / "tune"),
                stop=StopAll(stop),
                callbacks=[listener, tune.logger.JsonLoggerCallback()],  # type: ignore[no-untyped-call]
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4),  # Tune's own advice for its PBT
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            if listener.trouble is None:
                raise StudyError(
                    f"Ray Tune has given up: {first_line(error)}. Finished trials are kept; run the same command again."
                ) from error
        finally:
            if listener.trouble is None:
                log.interrupt_running()
    if listener.trouble is not None:
        raise listener.trouble
    return log


def _strategy(
    spec: StudySpec,
    scheduler: Scheduler,
    *,
    trials: Sequence[FrozenTrial],
    first: Sequence[Params],
    base: Params,
    epochs: int,
) -> tuple[dict[str, Any], Any, Any]:
    """Tune's parameter space, search algorithm and scheduler."""
    if scheduler == "pbt":
        every = population_interval(epochs)
        return make_population(spec.space, first=first, every_epochs=every, seed=spec.seed + len(trials))
    searcher = make_searcher(spec.space, trials, first=first, epochs=epochs, wanted=spec.trials, seed=spec.seed)
    stopping = make_asha(trials, spared=base, epochs=epochs) if scheduler == "asha" else None
    return {}, searcher, stopping


def population_interval(epochs: int) -> int:
    """Epochs between two decisions of Population Based Training: some five of them in a training."""
    return max(1, epochs // 6)


def _rungs(scheduler: Scheduler, epochs: int) -> tuple[int, ...]:
    if scheduler == "asha":
        return rungs_of(epochs)
    return tuple(range(population_interval(epochs), epochs, population_interval(epochs)))


def _count_finished(trials: Sequence[FrozenTrial], scheduler: Scheduler) -> int:
    """Trials with a result. Of a population only whole trainings count: a stopped one lives on in another."""
    counted = ("COMPLETE",) if scheduler == "pbt" else ("COMPLETE", "PRUNED")
    return sum(trial.state.name in counted for trial in trials)


def _may_retry(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Whether its recipe has a try left: it may be what its workers die of."""
    tries, before = 1, trial.user_attrs.get("retry_of")
    while before is not None:
        tries, before = tries + 1, trials[before].user_attrs.get("retry_of")
    return tries < _TRIES


def _has_base(trials: Sequence[FrozenTrial]) -> bool:
    """Whether the base recipe has been tried; one that failed by its own fault is not tried again."""
    ended = (t for t in trials if t.state.is_finished() and not t.user_attrs.get("interrupted"))
    return any(trial.user_attrs.get("anchor") == BASE_RECIPE for trial in ended)


def _clean(folder: Path) -> None:
    """Leave Tune's results, not its checkpoints: nobody goes on from them."""
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)  # a training that was stopped from outside leaves its own
    for checkpoint in folder.glob("tune/*/*/checkpoint_*"):
        with suppress(OSError):
            shutil.rmtree(checkpoint)

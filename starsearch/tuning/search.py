"""`tune_recipes`: the best recipe of one architecture, searched by Ray Tune and written into a study."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, Stopper

from starsearch.candidate import Candidate
from starsearch.data import DataSet
from starsearch.errors import EvaluationError, StarsearchError, StudyError
from starsearch.evaluators.proxy import count_cost
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement, trained_accuracies
from starsearch.progress import Progress
from starsearch.records.record import DRIVER_DIED, StudyRecord, hold_lease
from starsearch.search.executor import failure_reason
from starsearch.search.ray_cluster import as_ray, connected, first_line, room, wait_for_room
from starsearch.search.ray_executor import Requirements
from starsearch.signals import asked_to_stop
from starsearch.study.runner_file import RayRunner, TaskResources
from starsearch.trial import Trial
from starsearch.tuning.space import BASE_RECIPE, encode_recipe
from starsearch.tuning.strategy import Scheduler, Strategy, make_strategy, rungs_of
from starsearch.tuning.trainable import RecipeTraining, Tuned

Params = Mapping[str, Any]
Watch = Callable[[Progress | Trial], None]  # told how far all trainings are, and of each trial that has ended
SCHEDULES = "recipe_schedules"  # the study's attribute: by which recipes a trial was trained, where these are several

# Ray's own tables, hints and signal handlers; none of it is for our users.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # a training that is stopped need not end its epoch
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


def tune_recipes(
    record: StudyRecord,
    architecture: Architecture,
    data: DataSet,
    scheduler: Scheduler,
    runner: RayRunner,
    folder: Path,
    watch: Watch,
) -> int:
    """Train recipes until the study has its trials with a result, the base recipe's among them; return how many it has.

    Trials are written when they end. Ctrl-C ends the search cleanly: what was finished is kept. Ray Tune's files lie in
    the folder `tune` of the study's `folder`.
    """
    spec = record.spec
    base, resources = encode_recipe(spec.space, spec.recipe), runner.resources_of(spec.fidelity.name)
    spec = replace(spec, fidelity=replace(spec.fidelity, time_limit_s=runner.time_limit_s))
    tuned = Tuned(
        spec=spec,
        architecture=architecture,
        data=data,
        threads=max(1, int(resources.cpu)),
        requirements=Requirements(folder=str(folder.resolve())),
        changing=scheduler == "pbt",
    )
    with connected(runner), hold_lease(record), asked_to_stop() as stop:
        wait_for_room(resources, runner)
        record.fail_running(DRIVER_DIED)
        recorder = _Recorder(tuned, record, base, watch, stop)
        while recorder.missing > 0 and not stop.is_set():
            before, trials = recorder.finished, record.trials()
            strategy = make_strategy(spec, scheduler, trials, base)
            with _quiet_ray():
                _fit(recorder, strategy, tuned, resources, runner.workers, folder / "tune" / f"run-{len(trials)}", stop)
            if recorder.trouble is not None:
                raise recorder.trouble
            if recorder.finished == before and not stop.is_set():
                raise StudyError(
                    f"Every training failed, the last with: {recorder.last_reason}\nFinished trials are kept: narrow "
                    "the recipe space to what can be trained and give the study another --name."
                )
    for checkpoint in folder.glob("tune/*/*/checkpoint_*"):  # Tune's results stay; nothing resumes from these
        shutil.rmtree(checkpoint, ignore_errors=True)
    return recorder.finished


def _fit(
    recorder: _Recorder,
    strategy: Strategy,
    tuned: Tuned,
    resources: TaskResources,
    workers: int | None,
    folder: Path,
    stop: threading.Event,
) -> None:
    """Let Ray Tune train as many recipes as the study still lacks."""
    domains, searcher, scheduler = strategy
    trainable = tune.with_resources(
        tune.with_parameters(RecipeTraining, tuned=tuned), tune.PlacementGroupFactory([as_ray(resources)])
    )
    tuner = tune.Tuner(
        trainable,
        param_space=domains,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=recorder.missing,
            max_concurrent_trials=workers or max(1, room(resources)),
            reuse_actors=True,  # its images stay decoded
            trial_dirname_creator=lambda trial: trial.trial_id,  # Tune's own holds every value
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            stop=_StopAll(stop),
            callbacks=[recorder, tune.logger.JsonLoggerCallback()],  # type: ignore[no-untyped-call]
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4),  # Tune's own advice for its PBT
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if recorder.trouble is None:
            raise StudyError(
                f"Ray Tune has given up: {first_line(error)}. Finished trials are kept; run the same command again."
            ) from error


class _Recorder(Callback):
    """Writes Tune's trials into the record as they end; `trouble` with that ends the search, to be raised then."""

    def __init__(self, tuned: Tuned, record: StudyRecord, base: Params, watch: Watch, stop: threading.Event) -> None:
        self._spec, self._tuned, self._record, self._base = tuned.spec, tuned, record, base
        self._watch, self._stop = watch, stop
        self._running: dict[str, float] = {}  # the fraction of each training
        self._failed: list[Any] = []
        self.finished = sum(trial.has_result for trial in record.trials())
        self.last_reason = ""
        self.trouble: StarsearchError | None = None

    @property
    def missing(self) -> int:
        """Trials that the study lacks."""
        return self._spec.trials - self.finished

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes all that it was given into a file to restore from, and we resume from the record."""
        return {}

    # Tune calls all of them by keywords.
    def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:  # type: ignore[override]
        """A trial has been trained for an epoch."""
        self._running[trial.trial_id] = result["epoch"] / self._spec.num_epochs
        self._tell_progress()

    def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:  # type: ignore[override]
        """A trial has ended or was stopped; one that the end of the search has stopped has no result."""
        result = trial.last_result
        if not self._stop.is_set() or result.get("done"):
            self._write(trial, "complete" if result["epoch"] >= self._spec.num_epochs else "pruned")

    def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:  # type: ignore[override]
        """A trial has failed; why is noted on it after this call."""
        self._failed.append(trial)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A turn of Tune's loop is over."""
        failed, self._failed = self._failed, []
        for trial in failed:
            error = _error_of(trial)
            # Without a cause of its own the trial's worker or node has died.
            cause = getattr(error, "cause", None)
            if isinstance(cause, StarsearchError) and not isinstance(cause, EvaluationError):
                self._end(cause)  # the data, the node or the disk: no recipe's fault
            told = cause or error
            self.last_reason = failure_reason(told) if told else "It failed."
            self._write(trial, "fail", reason=self.last_reason, lost=cause is None)

    def on_experiment_end(self, *_: Any, **__: Any) -> None:
        """Tune's loop is over."""
        self.on_step_end()

    def _write(self, trial: Any, state: Any, **failure: Any) -> None:
        """Raised here, an error would end as text in an error of Tune's."""
        if self.trouble is None:
            try:
                self._record_trial(trial.config, trial.last_result or {}, state, failure)
            except StarsearchError as error:
                self._end(error)
        self._running.pop(trial.trial_id, None)
        self._tell_progress()

    def _record_trial(self, config: Params, result: Mapping[str, Any], state: Any, failure: Mapping[str, Any]) -> None:
        schedule = result.get("schedule") or [{"since": 1, "params": dict(config)}]
        params, epochs = schedule[-1]["params"], int(result.get("epoch", 0))
        rung = max(sum(epochs >= rung for rung in rungs_of(self._spec.num_epochs)) - 1, 0)
        is_base = dict(params) == dict(self._base) and len(schedule) == 1
        recipe = self._tuned.decode(params)
        ended = Trial(
            candidate=Candidate(
                architecture=self._tuned.architecture, recipe=recipe, anchor=BASE_RECIPE if is_base else None
            ),
            params=params,
            state=state,
            rung=rung if state == "pruned" else None,
            epochs=epochs if state == "pruned" else None,
            curve={int(epoch): top1 for epoch, top1 in result.get("curve", {}).items()},
            readings=() if state == "fail" else self._readings(result),
            seconds=float(result.get("seconds", 0.0)),
            **failure,
        )
        ended = self._record.finish(replace(ended, number=self._record.start(ended).number))
        if len(schedule) > 1:
            known = self._record.attribute(SCHEDULES) or {}
            self._record.set_attribute(SCHEDULES, {**known, str(ended.number): schedule})
        self.finished += ended.has_result
        self._watch(ended)

    def _readings(self, result: Mapping[str, Any]) -> tuple[Measurement, ...]:
        """What was trained to, and what the network costs: the same for all, so that the tables say which it is."""
        data, resolution = self._tuned.data, self._spec.space.resolution
        num_images = min(self._spec.fidelity.validation_samples or data.num_validation, data.num_validation)
        return (
            *trained_accuracies(
                result["top1_percent"], result["top5_percent"], num_images=num_images, num_classes=len(data.classes)
            ),
            Measurement(name="images_per_second", value=result["images_per_second"]),
            *count_cost(self._tuned.architecture, resolution=resolution, num_classes=len(data.classes)),
        )

    def _tell_progress(self) -> None:
        fraction = (self.finished + sum(self._running.values())) / self._spec.trials
        stage = f"{self.finished} of {self._spec.trials} recipes, {len(self._running)} in training"
        self._watch(Progress(fraction=min(fraction, 1.0), stage=stage))

    def _end(self, error: StarsearchError) -> None:
        self.trouble = self.trouble or error
        self._stop.set()


class _StopAll(Stopper):
    """Ends the whole search once `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 — Tune's signature
        """No trial is stopped by itself."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the recorder's."""
        return {}

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._stop.is_set()


def _error_of(trial: Any) -> BaseException | None:
    """What a trial has failed by; Tune's own reader looks where the file comes only later."""
    from ray import cloudpickle

    file = trial.pickled_error_file
    if file is None or not Path(file).is_file():
        return None
    found = cloudpickle.loads(Path(file).read_bytes())
    return found if isinstance(found, BaseException) else None


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray Tune says nothing, and leaves signals alone."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a later Ray will change
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

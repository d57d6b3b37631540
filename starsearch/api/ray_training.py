"""A full training on a Ray cluster: Ray Train starts the ranks, each of which does what one under torchrun does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from starsearch.api.training import Trained, run_training
from starsearch.api.training_job import TrainingFolder, TrainingJob
from starsearch.errors import EvaluationError, SpecError, StarsearchError, StudyError, TrainingStoppedError
from starsearch.progress import Progress
from starsearch.search.ray_cluster import as_ray
from starsearch.study.runner_file import RayRunner, load_runner

_LOOKED_EVERY_S = 2.0
_RAYS_FOLDER = "ray"  # in the training's, for what Ray Train itself writes
_STOP = ".stop"  # there, too: made by the driver, looked for by the ranks; the first one writes where it has stopped


def run_training_on_ray(
    job: TrainingJob,
    runner: str,
    *,
    watch: Callable[[Progress], None],
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train on the cluster of a runner file, `workers` ranks of its `resources` each.

    The folder of the training lies on storage that all nodes share: the first rank writes there, the driver reads its
    log. Every two seconds `is_asked_to_stop` is asked; the ranks keep the training then, and `TrainingStoppedError` is
    raised.
    """
    from starsearch.search.ray_cluster import connected, room, wait_for_room

    found = load_runner(runner)
    if not isinstance(found, RayRunner):
        raise SpecError(f"A training on many machines runs on Ray: {runner} is a runner of this machine alone.")
    TrainingFolder(job.folder)  # made, or refused in words
    stop = job.folder / _STOP
    stop.unlink(missing_ok=True)  # of a driver that was killed
    with connected(found):
        resources = found.resources_of(job.fidelity.name)
        wait_for_room(resources, found)
        try:
            failure = _fit(job, found.workers or room(resources), resources, watch, is_asked_to_stop)
            stopped = stop.read_text(encoding="utf-8") if stop.is_file() else ""
        finally:
            stop.unlink(missing_ok=True)
    if failure is not None:
        raise _in_words(failure, job.folder) from failure
    if stopped:
        raise TrainingStoppedError(stopped)
    summary = TrainingFolder(job.folder).read_summary()  # the first rank has written it there
    known = {one.name: summary[one.name] for one in fields(Trained) if one.name in summary}
    return Trained(folder=job.folder, **known)


def _fit(
    job: TrainingJob,
    ranks: int,
    resources: Any,
    watch: Callable[[Progress], None],
    is_asked_to_stop: Callable[[], bool],
) -> Exception | None:
    """Fit on a thread of its own, meanwhile tell of the epochs the first rank logs; return Ray Train's error.

    On the main thread Ray Train would take Ctrl-C for itself, and end the ranks where they are.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _train_rank,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=ranks, use_gpu=resources.gpu > 0, resources_per_worker=as_ray(resources)
        ),
        run_config=RunConfig(name=_RAYS_FOLDER, storage_path=str(job.folder)),
    )
    failures: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # returned by the main thread
            failures.append(error)

    epochs = job.recipe.epochs + job.recipe.cooldown_epochs
    told = len(TrainingFolder(job.folder).rows)
    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    is_over = False
    while not is_over:
        thread.join(_LOOKED_EVERY_S)
        is_over = not thread.is_alive()
        if is_asked_to_stop() and not is_over:
            (job.folder / _STOP).touch()
        new = TrainingFolder(job.folder).logged_epochs(after=told, of=epochs)
        for progress in new:
            watch(progress)
        told += len(new)
    return failures[0] if failures else None


def _train_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker. A rank that stops because it is asked to has not failed."""
    from ray.train import get_context

    job: TrainingJob = config["job"]
    stop, looked_at = job.folder / _STOP, time.monotonic()

    def is_asked_to_stop() -> bool:
        """Look for the file now and then, since its folder may lie on another machine."""
        nonlocal looked_at
        if time.monotonic() - looked_at < _LOOKED_EVERY_S:
            return False
        looked_at = time.monotonic()
        return stop.exists()

    try:
        run_training(job, is_asked_to_stop=is_asked_to_stop)
    except TrainingStoppedError as stopped:
        if get_context().get_world_rank() == 0:
            stop.write_text(str(stopped), encoding="utf-8")


def _in_words(error: BaseException, folder: Path) -> StarsearchError:
    """What a rank raised, if it was one of ours; else Ray's first line, the network's fault unless a rank was lost."""
    from ray.exceptions import RayError

    of_ranks = getattr(error, "worker_failures", {}).values()
    causes = (cause for one in (error, *of_ranks) for cause in (one, getattr(one, "cause", None) or one.__cause__))
    if ours := next((cause for cause in causes if isinstance(cause, StarsearchError)), None):
        return ours
    kind = StudyError if not of_ranks or any(isinstance(one, RayError) for one in of_ranks) else EvaluationError
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
    return kind(
        f"The training on Ray failed: {said} The last good state is kept in {folder}; the same command resumes it."
    )

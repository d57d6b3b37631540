"""A full training on a Ray cluster: Ray Train starts the ranks, each of which does what one under torchrun does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starsearch.api.training import Trained, read_trained, run_training
from starsearch.api.training_folder import TrainingFolder
from starsearch.api.training_job import TrainingJob
from starsearch.errors import SpecError, StarsearchError, StudyError
from starsearch.measurement import Progress

_LOOKED_EVERY_S = 2.0
_RAYS_FOLDER = "ray"  # in the training's, for what Ray Train itself writes


def run_training_on_ray(job: TrainingJob, runner: str, *, watch: Callable[[Progress], None]) -> Trained:
    """Train on the cluster of a runner file, `workers` ranks of its `resources` each.

    The folder of the training lies on storage that all nodes share: the first rank writes there, the driver reads
    its log.

    Args:
        job: the training.
        runner: a Ray runner's file or shipped name.
        watch: told of each epoch.

    Raises:
        SpecError: the runner is no Ray runner.
        StudyError: there is no cluster, or it cannot take the ranks, or a rank failed; the text says why.
    """
    from starsearch.search.ray_cluster import RayCluster
    from starsearch.study.runner_file import RayRunner, load_runner

    found = load_runner(runner)
    if not isinstance(found, RayRunner):
        raise SpecError(f"A training on many machines runs on Ray: {runner} is a runner of this machine alone.")
    TrainingFolder(job.folder)  # made, or refused in words
    cluster = RayCluster(found)
    try:
        resources = found.resources_of(job.fidelity.name)
        cluster.wait_for(resources)
        ranks = found.workers or cluster.capacity(resources)
        with _Watching(job.folder, watch):
            return _fit(job, ranks, resources)
    finally:
        cluster.close()


def _fit(job: TrainingJob, ranks: int, resources: Any) -> Trained:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from starsearch.search.ray_cluster import as_ray

    trainer = TorchTrainer(
        _train_rank,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=ranks, use_gpu=resources.gpu > 0, resources_per_worker=as_ray(resources)
        ),
        run_config=RunConfig(name=_RAYS_FOLDER, storage_path=str(job.folder)),
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray Train's, with what a rank raised inside
        raise StudyError(_in_words(error, job.folder)) from error
    return read_trained(job.folder)  # the first rank has written it there


def _train_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    run_training(config["job"])


def _in_words(error: BaseException, folder: Path) -> str:
    """What a rank said, if it was one of ours; else Ray's first line."""
    for cause in _causes(error):
        if isinstance(cause, StarsearchError):
            return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else type(error).__name__)
    return (
        f"The training on Ray failed: {said} The last good state is kept in {folder}; the same command goes on from it."
    )


def _causes(error: BaseException) -> list[BaseException]:
    found = [error, *getattr(error, "worker_failures", {}).values()]
    return [*found, *(inner for one in found if (inner := getattr(one, "cause", None) or one.__cause__) is not None)]


class _Watching:
    """Tells of the epochs that the first rank logs, while the trainer holds this thread."""

    def __init__(self, folder: Path, watch: Callable[[Progress], None]) -> None:
        self._folder = folder
        self._watch = watch
        self._told = len(TrainingFolder(folder).rows)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._tell()

    def _look(self) -> None:
        while not self._over.wait(_LOOKED_EVERY_S):
            self._tell()

    def _tell(self) -> None:
        folder = TrainingFolder(self._folder)
        for progress in folder.told_epochs(after=self._told):
            self._watch(progress)
        self._told = max(self._told, len(folder.rows))

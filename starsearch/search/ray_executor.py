"""`RayExecutor`: evaluations as streaming tasks of a Ray cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starsearch.errors import DataError, StudyError
from starsearch.measurement import Reading
from starsearch.progress import Progress
from starsearch.search.executor import Job, JobEvent, JobLost, JobProgressed, JobReturned, follow_job, overdue
from starsearch.search.ray_cluster import RayCluster, task_options
from starsearch.search.ray_head import first_line
from starsearch.search.ray_nodes import look_around, refuse_stranger
from starsearch.search.time_limit import TimeLimit

if TYPE_CHECKING:
    from starsearch.evaluators.evaluator import Evaluator
    from starsearch.study.runner_file import TaskResources

_WAITS_S = 1.0
_CHECKED_EVERY_S = 2.0  # while there is always something to hear
# What a worker may say before the driver has heard it; then it waits.
_AHEAD = 4
_MET: list[Demands] = []  # in this worker process, which need not look around again


@dataclass(slots=True)
class _Running:
    """A job, the stream of what its task says, and what was found out before that task."""

    job: Job
    stream: Any
    found: tuple[Reading, ...] = ()
    is_measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """A second part of every evaluation, where the first must not do it: a latency, on the device it is about.

    Attributes:
        evaluator: of this part.
        resources: what it takes; a custom resource of the device's nodes is among them.
        demands: what its workers must be like; None looks at none.
    """

    evaluator: Evaluator
    resources: TaskResources
    demands: Demands | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a worker must be like, wherever and whenever it starts.

    Attributes:
        versions: the driver's.
        folder: the study's, which it must see.
        host: identity of the machine it must run on, where it times latencies; None for any.
        device: what that machine is in words, where it may be one of several of a kind; None for any.
    """

    versions: Mapping[str, str]
    folder: str
    host: str | None = None
    device: str | None = None


class RayExecutor:
    """Evaluates in tasks of a cluster, as many at a time as fit there now.

    Tasks say what happens through a stream; they never see the study. A task whose worker or node dies is lost, and
    the driver decides what becomes of it: Ray itself retries nothing.

    Args:
        evaluator: judges candidates; goes to the nodes through the object store, once.
        cluster: where; closed with the executor.
        resources: what one evaluation takes.
        workers: evaluations at a time; None for as many as fit.
        time_limit_s: seconds after which an evaluation is ended as failed; the driver's own absence does not count.
        afterwards: a second part of every evaluation.
        demands: what every worker must be like; None looks at none.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        cluster: RayCluster,
        resources: TaskResources,
        workers: int | None = None,
        time_limit_s: float | None = None,
        afterwards: Afterwards | None = None,
        demands: Demands | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import ray

        self.is_elsewhere = True
        self._cluster = cluster
        self._resources = resources
        self._workers = workers
        self._limit = TimeLimit(time_limit_s, clock)
        self._checked_at = self._limit.now
        self._evaluator = ray.put(evaluator)
        self._task = _streaming(resources)
        self._demands = ray.put(demands)
        self._afterwards = None
        if afterwards is not None:
            task = _streaming(afterwards.resources)
            self._afterwards = (ray.put(afterwards.evaluator), task, ray.put(afterwards.demands))
        self._running: dict[int, _Running] = {}

    @property
    def capacity(self) -> int:
        """As many as the runner says, or as fit on the nodes that are alive."""
        if self._workers is not None:
            return self._workers
        # With no node left for the moment: one waits for the next.
        return max(1, self._cluster.capacity(self._resources))

    def submit(self, job: Job) -> None:
        """Hand the job to Ray."""
        stream = self._task.remote(self._evaluator, job, self._demands)
        self._running[job.number] = _Running(job=job, stream=stream)

    def next_event(self) -> JobEvent | None:
        """What a task says, or that it is lost; None after a second.

        Raises:
            StudyError, DataError: no candidate's fault, or the cluster is gone.
        """
        with self._limit.listening():
            late = self._limit.first_overdue()
            if late is None:
                return self._next_of_all()
            if self._ready([late], timeout_s=0.0):  # it may have ended while nobody listened
                return self._hear(late)
            self.cancel(late)
            assert self._limit.seconds is not None
            return overdue(late, self._limit.seconds)

    def _next_of_all(self) -> JobEvent | None:
        ready = self._ready(list(self._running), timeout_s=_WAITS_S)
        # First what lies here already: where the cluster is gone, it would be lost.
        if ready and self._limit.now - self._checked_at < _CHECKED_EVERY_S:
            return self._hear(ready[0])
        # Also while nodes without their head go on for a while: Ray would end this process.
        self._cluster.check_is_alive(self._resources)
        self._checked_at = self._limit.now
        return self._hear(ready[0]) if ready else None

    def _ready(self, numbers: Sequence[int], *, timeout_s: float) -> list[int]:
        """The first of the trials that has something to say, if any."""
        import ray

        streams = {self._running[number].stream: number for number in numbers}
        try:
            ready, _ = ray.wait(list(streams), num_returns=1, timeout=timeout_s, fetch_local=False)
        except (ray.exceptions.RaySystemError, ConnectionError) as error:
            raise StudyError(
                f"The Ray cluster is gone: {first_line(error)}. Finished trials are kept; run the same command again "
                "once it is back."
            ) from error
        return [streams[stream] for stream in ready]

    def cancel(self, number: int) -> None:
        """End the task of trial `number`, with its worker."""
        import ray

        if number in self._running:
            ray.cancel(self._release(number).stream, force=True, recursive=True)

    def close(self) -> None:
        """End all tasks, and let go of the cluster."""
        for number in list(self._running):
            self.cancel(number)
        self._cluster.close()

    def _hear(self, number: int) -> JobEvent | None:
        import ray

        running = self._running[number]
        try:
            said: JobEvent = ray.get(next(running.stream))
        except StopIteration:  # what ended it came before
            return self._lose(number, "its stream ended without a result")
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise StudyError(
                f"The workers' environment cannot be set up: {first_line(error)}. Correct runtime_env in the runner "
                "file, or install starsearch on the nodes."
            ) from error
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (StudyError, DataError)):
                # Ray's own class stands between; its text is the whole traceback.
                kind = DataError if isinstance(cause, DataError) else StudyError
                raise kind(first_line(error).partition(": ")[2]) from error
            return self._lose(number, first_line(error), log=str(error))
        except ray.exceptions.RayError as error:
            # One sentence; the others are Ray's advice, and in the log.
            return self._lose(number, f"{type(error).__name__}: {first_line(error).split('. ')[0]}", log=str(error))
        return self._take(number, running, said)

    def _take(self, number: int, running: _Running, said: JobEvent) -> JobEvent | None:
        # Only now: until it is first heard it waits for its turn, or its worker starts.
        self._limit.begin(number)
        if isinstance(said, JobProgressed):
            # The next time another is heard first.
            self._running[number] = self._running.pop(number)
            return said
        if isinstance(said, JobReturned) and self._needs_more(running):
            assert self._afterwards is not None
            evaluator, task, demands = self._afterwards
            running.found, running.is_measured = said.measurements, True
            self._limit.forget(number)
            running.stream = task.remote(evaluator, running.job, demands)
            return None
        self._release(number)
        if isinstance(said, JobReturned):
            return replace(said, measurements=(*running.found, *said.measurements))
        return said

    def _needs_more(self, running: _Running) -> bool:
        return self._afterwards is not None and not running.is_measured

    def _lose(self, number: int, why: str, log: str = "") -> JobLost:
        self._release(number)
        return JobLost(number=number, reason=f"Its worker was lost: {why.rstrip('.')}.", log=log)

    def _release(self, number: int) -> _Running:
        self._limit.forget(number)
        return self._running.pop(number)


def _streaming(resources: TaskResources) -> Any:
    """`_evaluate` as a task that Ray neither retries nor lets run far ahead of the driver."""
    import ray

    options = task_options(resources) | {
        "max_retries": 0,
        "num_returns": "streaming",
        "_generator_backpressure_num_objects": _AHEAD,
    }
    return ray.remote(**options)(_evaluate)


def _evaluate(evaluator: Evaluator, job: Job, demands: Demands | None) -> Iterator[JobEvent]:
    """Runs on a node, which may have joined after the others were looked over; Ray sets the number of threads."""
    if demands is not None:
        _meet(demands, evaluator)
    yield JobProgressed(number=job.number, progress=Progress(fraction=0.0, stage="starting"))
    yield from follow_job(evaluator, job)


def _meet(demands: Demands, evaluator: Evaluator) -> None:
    """Look around once in a worker process.

    Raises:
        StudyError: it cannot evaluate here, or must not.
    """
    if demands in _MET:
        return
    name = socket.gethostname()
    answer = look_around(evaluator, demands.folder)
    refuse_stranger(name, answer, demands.versions, device=demands.device)
    if demands.host is not None and answer["host"] != demands.host:
        raise StudyError(
            f"The node {name} has joined the cluster, but latency_ms is measured on the driver's machine and the "
            "runner file names no device. Say which nodes are the device (device: NAME), or predict it from a profile."
        )
    _MET.append(demands)

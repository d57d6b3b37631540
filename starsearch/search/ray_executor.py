"""`RayExecutor`: evaluations as streaming tasks of a Ray cluster, which is found or started for the run."""

from __future__ import annotations

import faulthandler
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError
from starsearch.evaluators.evaluator import Evaluator, Untrained
from starsearch.latency.device import device_fingerprint
from starsearch.measurement import Reading
from starsearch.progress import Progress
from starsearch.search.executor import Failure, Job, News, follow_job
from starsearch.search.ray_cluster import (
    as_ray,
    cluster_errors,
    error_of_worker,
    first_line,
    in_words,
    nodes_in_words,
    room,
    task_options,
)
from starsearch.study.runner_file import RayRunner, TaskResources

_POLL_S = 1.0
# Ray neither retries a task nor lets it report more than four events before the driver has read them.
_STREAMING: dict[str, Any] = {"max_retries": 0, "num_returns": "streaming", "_generator_backpressure_num_objects": 4}
_NODES_LOST_AFTER_S = 60.0
_CHECKED: list[Requirements] = []  # what this worker process has already been found to meet


def versions() -> dict[str, str]:
    """Return the versions that driver and workers must agree on."""
    import platform

    import torch

    import starsearch

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "starsearch": starsearch.__version__, "torch": str(torch.__version__)}


def host_identity() -> str:
    """Return a text that all processes of this machine share until it is rebooted."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()} {boot}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a worker must meet before its first evaluation, whenever its node joined.

    Attributes:
        folder: the study's folder, which the worker must see.
        host: identity of the one machine it may run on, because it times latencies; None for any.
        device: fingerprint of the machine it must run on, where a runner names a device; None for any.
    """

    folder: str
    host: str | None = None
    device: str | None = None
    versions: Mapping[str, str] = field(default_factory=versions)

    def check(self, evaluator: Evaluator) -> None:
        """Refuse this worker's node if it cannot evaluate; the error names the node."""
        node, here = f"The node {socket.gethostname()}", versions()
        if differing := [
            f"{name} {here[name]} against {one}" for name, one in self.versions.items() if here[name] != one
        ]:
            raise StudyError(
                f"{node} has other versions than the driver: {', '.join(differing)}. Install the same there (for "
                "starsearch alone: `ship_code: true` in the runner file)."
            )
        try:
            getattr(evaluator, "check", lambda: None)()
        except Exception as error:  # whatever the data's library raises
            raise StudyError(
                f"{node} cannot read the data: {type(error).__name__}: {error}\nThe path must be the same on every "
                "node: put the data on a shared file system, or copy them to each node."
            ) from error
        if not Path(self.folder).is_dir():
            raise StudyError(
                f"{node} does not see the study's folder {self.folder}, where weights and checkpoints are written. "
                "Give an --out on a file system that all nodes share."
            )
        if self.device is not None and (found := device_fingerprint().text) != self.device:
            raise StudyError(
                f"{node} carries the runner's device, but is another machine: {found}. The study's latencies are those "
                f"of {self.device}. Start that node without the device's resource, and run the same command again."
            )
        if self.host is not None and host_identity() != self.host:
            raise StudyError(
                f"{node} is another machine than the driver's, on which latency_ms is measured. Say in the runner file "
                "which custom resource marks the device (device: NAME, and `ray start --resources '{\"NAME\": 1}'` "
                "there), or predict it from a profile (latency_ms: {device: PROFILE.yaml})."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of every evaluation: what evaluates, what it takes of a node, and what that node must meet."""

    evaluator: Evaluator
    resources: TaskResources
    requirements: Requirements


@dataclass(slots=True, kw_only=True)
class _Running:
    """A job, the stream of its current stage, and what the earlier stages returned."""

    job: Job
    stream: Any
    stage: int = 0
    readings: tuple[Reading, ...] = ()


class RayExecutor:
    """Evaluates in tasks of the connected cluster, as many at a time as fit there now.

    A task reports through a stream and never sees the study. Ray retries nothing: when a worker or node dies, the
    driver decides whether the candidate runs again.

    Args:
        stages: the parts of every evaluation: the latency where another node measures it, then the training, which
            is told what was measured.
    """

    def __init__(self, runner: RayRunner, *stages: Stage) -> None:
        import ray

        self._runner = runner
        self._stages = stages
        self._sent = [ray.put((stage.requirements, runner.time_limit_s)) for stage in stages]
        self._evaluators = [ray.put(stage.evaluator) for stage in stages]
        self._tasks = [ray.remote(**task_options(stage.resources), **_STREAMING)(_evaluate) for stage in stages]
        self._running: dict[int, _Running] = {}
        self._fitting, self._asked_at = 0, float("-inf")
        self._no_room_since: float | None = None

    @property
    def capacity(self) -> int:
        """As many as the runner says, or as fit on the live nodes; one where a lost node may still be replaced."""
        return self._runner.workers or max(1, self._room())

    def submit(self, job: Job) -> None:
        """Hand the job to Ray."""
        self._running[job.number] = _Running(job=job, stream=self._begin(job, 0))

    def next(self) -> tuple[int, News] | None:
        """Return what a task reports, or that it is lost; None after a second."""
        import ray

        streams = {running.stream: number for number, running in self._running.items()}
        with cluster_errors():
            ready, _ = ray.wait(list(streams), num_returns=1, timeout=_POLL_S, fetch_local=False)
        if not ready:
            self._refuse_lost_nodes()
            return None
        news = self._read(streams[ready[0]])
        return None if news is None else (streams[ready[0]], news)

    def close(self) -> None:
        """End all tasks with their workers; the cluster stays connected."""
        import ray

        for number in list(self._running):
            with suppress(Exception):  # the cluster may be what has failed
                ray.cancel(self._running.pop(number).stream, force=True, recursive=True)
                self._take_traceback(number)

    def _begin(self, job: Job, stage: int) -> Any:
        return self._tasks[stage].remote(self._evaluators[stage], job, self._sent[stage])

    def _room(self) -> int:
        """How many evaluations fit; the head is asked at most once a second."""
        if time.monotonic() - self._asked_at >= _POLL_S:
            self._fitting, self._asked_at = room(self._stages[-1].resources), time.monotonic()
        return self._fitting

    def _refuse_lost_nodes(self) -> None:
        if self._room():
            self._no_room_since = None
            return
        self._no_room_since = self._no_room_since or time.monotonic()
        if time.monotonic() - self._no_room_since > max(_NODES_LOST_AFTER_S, self._runner.wait_s):
            raise StudyError(
                "The Ray cluster has lost every node that has what one evaluation takes "
                f"({in_words(as_ray(self._stages[-1].resources))}). Nodes: {nodes_in_words()}. Finished trials are "
                "kept; add a node and run the same command again."
            )

    def _read(self, number: int) -> News | None:
        import ray

        running = self._running[number]
        try:
            event: News = ray.get(next(running.stream))
        except StopIteration:  # what ended it was reported before
            return self._lose(number, "its stream ended without a result")
        except ray.exceptions.RuntimeEnvSetupError as error:
            raise StudyError(
                f"The workers' environment cannot be set up: {first_line(error)}. Correct runtime_env in the runner "
                "file, or install starsearch on the nodes."
            ) from error
        except ray.exceptions.RayTaskError as error:  # `follow_job` reports all that a candidate raises
            raise error_of_worker(error) from error
        except ray.exceptions.RayError as error:  # one sentence; the others are Ray's advice, and in the log
            return self._lose(number, f"{type(error).__name__}: {first_line(error).split('. ')[0]}", log=str(error))
        if isinstance(event, Progress):
            self._running[number] = self._running.pop(number)  # last, so that others are read before it
            return event
        if not isinstance(event, Failure):
            event = running.readings = type(event)((*running.readings, *event))
            running.stage += 1
            if running.stage < len(self._stages) and not isinstance(event, Untrained):
                part = replace(running.job.part, known=running.readings)
                running.stream = self._begin(replace(running.job, part=part), running.stage)
                return None
        del self._running[number]
        return event

    def _lose(self, number: int, why: str, log: str = "") -> Failure:
        del self._running[number]
        if hung := self._take_traceback(number):
            limit_s = self._runner.time_limit_s
            reason = f"TimeLimitError: the evaluation took longer than the runner's {limit_s:g} s."
            return Failure(reason=reason, log=hung)
        return Failure(reason=f"Its worker was lost: {why.rstrip('.')}.", log=log, lost=True)

    def _take_traceback(self, number: int) -> str:
        """Where the evaluation was when its time was up, as its worker has written it; empty where it was not."""
        file = _traceback_file(self._stages[-1].requirements, number)
        with suppress(OSError):
            text = file.read_text(encoding="utf-8")
            file.unlink()
            return text
        return ""


def _evaluate(evaluator: Evaluator, job: Job, sent: tuple[Requirements, float | None]) -> Iterator[News]:
    """Run a job on a node; Ray sets the number of threads."""
    requirements, limit_s = sent
    if requirements not in _CHECKED:
        requirements.check(evaluator)
        _CHECKED.append(requirements)
    yield Progress(fraction=0.0, stage="starting")
    events = follow_job(evaluator, job)
    yield from events if limit_s is None else _limited(events, limit_s, _traceback_file(requirements, job.number))


def _limited(events: Iterator[News], limit_s: float, file: Path) -> Iterator[News]:
    """The same events; this process ends, with where it hung in `file`, once they have taken `limit_s` to compute.

    The time in which an event waits for the driver does not count.
    """
    left_s = limit_s
    with file.open("w", encoding="utf-8") as stream:
        while True:
            began = time.monotonic()
            faulthandler.dump_traceback_later(max(left_s, 1e-3), file=stream, exit=True)
            event = next(events, None)
            faulthandler.cancel_dump_traceback_later()
            left_s -= time.monotonic() - began
            if not isinstance(event, Progress):  # the last news, or none after it
                file.unlink(missing_ok=True)
            if event is None:
                return
            yield event


def _traceback_file(requirements: Requirements, number: int) -> Path:
    return Path(requirements.folder, f".trial-{number}.hung")

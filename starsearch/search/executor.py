"""Where evaluations run. An executor knows no sampler and no record: it takes jobs and says what happens in them."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starsearch.candidate import Candidate
from starsearch.errors import DataError, StudyError
from starsearch.evaluators.evaluator import Evaluator, TrainingPart, Untrained
from starsearch.measurement import Reading
from starsearch.progress import Progress

_MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One evaluation: the trial's number, and what the evaluator takes."""

    number: int
    candidate: Candidate
    seed: int
    weights: Path | None
    part: TrainingPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An evaluation without a result.

    Attributes:
        reason: one line for the user.
        log: a traceback, for a file.
        lost: whether the evaluation ended with its worker, so that the candidate need not be at fault.
    """

    reason: str
    log: str = ""
    lost: bool = False


News = Progress | tuple[Reading, ...] | Failure


class Executor(Protocol):
    """Runs up to `capacity` jobs at a time."""

    @property
    def capacity(self) -> int:
        """How many jobs it runs at a time; this may change from one call of `next` to another."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; fewer than `capacity` are running."""
        ...

    def next(self) -> tuple[int, News] | None:
        """Wait for what happens next in a running job; return it with the trial's number.

        Readings and a `Failure` are the last news of their job. None says that nothing happened for a while, during
        which `capacity` may have changed.

        Raises:
            StudyError, DataError: no candidate's fault: nothing more can be evaluated there.
        """
        ...

    def close(self) -> None:
        """Cancel what still runs and release everything; a second call does nothing."""
        ...


def follow_job(evaluator: Evaluator, job: Job) -> Generator[News]:
    """Yield what happens in a job, to its end; only errors that are no candidate's fault leave it."""
    try:
        readings = yield from evaluator(job.candidate, seed=job.seed, weights=job.weights, part=job.part)
        yield readings if isinstance(readings, Untrained) else tuple(readings or ())
    except (StudyError, DataError):
        raise
    except Exception as error:
        yield Failure(reason=failure_reason(error), log=traceback.format_exc())


class LocalExecutor:
    """Evaluates in this process, one candidate at a time, in the thread that asks for the next event."""

    capacity = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._running: tuple[int, Generator[News]] | None = None

    def submit(self, job: Job) -> None:
        """Take a job; none is running."""
        self._running = job.number, follow_job(self._evaluator, job)

    def next(self) -> tuple[int, News]:
        """Continue the job until it says something."""
        assert self._running is not None
        number, news = self._running
        return number, next(news)

    def close(self) -> None:
        """Close the evaluation, if one runs."""
        if self._running is not None:
            self._running[1].close()
        self._running = None


def failure_reason(error: BaseException) -> str:
    """Return one line: the exception's type and the first line of its text."""
    if isinstance(error, OSError) and error.strerror:
        # Not str(error): it names the file by its whole path, and a record holds no path of a machine.
        return f"{type(error).__name__}: {error.strerror}" + (
            f": {Path(error.filename).name}" if error.filename else ""
        )
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, MemoryError) and not said:
        said = "out of memory"
    return f"{type(error).__name__}: {said}".removesuffix(": ")[:_MAX_REASON_CHARS]

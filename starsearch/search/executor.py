"""Where evaluations run. An executor knows no sampler and no storage: it takes jobs and hands out events."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from starsearch.candidate import Candidate
from starsearch.errors import DataError, StudyError
from starsearch.measurement import Reading
from starsearch.progress import Progress
from starsearch.search.failures import failure_reason

if TYPE_CHECKING:  # evaluators import torch
    from starsearch.evaluators.evaluator import Evaluation, Evaluator, Stretch

    MakeExecutor = Callable[[Evaluator], "Executor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One evaluation: the trial's number, and what the evaluator takes."""

    number: int
    candidate: Candidate
    seed: int
    weights: Path | None
    stretch: Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed:
    """The evaluation of trial `number` has come further."""

    number: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReturned:
    """The evaluation of trial `number` has ended with measurements and predictions."""

    number: int
    measurements: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """The evaluation of trial `number` has ended with an exception: `reason` for the user, `log` for a file."""

    number: int
    reason: str
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLost:
    """The evaluation of trial `number` has ended with its worker: the candidate need not be at fault."""

    number: int
    reason: str
    log: str = ""


JobEvent = JobProgressed | JobReturned | JobFailed | JobLost


class Executor(Protocol):
    """Runs up to `capacity` jobs at a time.

    Attributes:
        is_elsewhere: whether a job that kills its process spares the driver's.
    """

    is_elsewhere: bool

    @property
    def capacity(self) -> int:
        """How many jobs it runs at a time; may change between two events."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; fewer than `capacity` are running."""
        ...

    def next_event(self) -> JobEvent | None:
        """What happens next in any running job; waits for it. At least one job is running.

        None says that nothing has happened for a while, in which `capacity` may have changed.

        Raises:
            StudyError, DataError: no candidate's fault: nothing can be evaluated there any more.
        """
        ...

    def cancel(self, number: int) -> None:
        """End the job of trial `number` if it still runs; no event of it follows."""
        ...

    def close(self) -> None:
        """Cancel what still runs and give back everything."""
        ...


def begin_evaluation(evaluator: Evaluator, job: Job) -> Evaluation:
    """The generator of what `job` asks for."""
    return evaluator(job.candidate, seed=job.seed, weights=job.weights, stretch=job.stretch)


def follow_job(evaluator: Evaluator, job: Job) -> Iterator[JobEvent]:
    """What happens in `job`, to its end; for workers, whose driver is elsewhere.

    Raises:
        StudyError, DataError: no candidate's fault: the study stops, the trial runs again.
    """
    evaluation = begin_evaluation(evaluator, job)
    try:
        while True:
            yield JobProgressed(number=job.number, progress=next(evaluation))
    except StopIteration as stop:
        yield JobReturned(number=job.number, measurements=tuple(stop.value or ()))
    except (StudyError, DataError):
        raise
    except Exception as error:
        yield JobFailed(number=job.number, reason=failure_reason(error), log=traceback.format_exc())
    finally:
        evaluation.close()


class LocalExecutor:
    """Evaluates in this process, one candidate at a time, in the thread that asks for the next event."""

    capacity = 1
    is_elsewhere = False

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._job: Job | None = None
        self._evaluation: Evaluation | None = None

    def submit(self, job: Job) -> None:
        """Take a job; none is running."""
        assert self._job is None
        self._job = job

    def next_event(self) -> JobEvent:
        """Go on with the job until it says something."""
        assert self._job is not None
        number = self._job.number
        try:
            if self._evaluation is None:
                self._evaluation = begin_evaluation(self._evaluator, self._job)
            return JobProgressed(number=number, progress=next(self._evaluation))
        except StopIteration as stop:
            self._forget()
            return JobReturned(number=number, measurements=tuple(stop.value or ()))
        except (StudyError, DataError):  # no candidate's fault: the study stops, the trial runs again
            self._forget()
            raise
        except Exception as error:
            self._forget()
            return JobFailed(number=number, reason=failure_reason(error), log=traceback.format_exc())

    def cancel(self, number: int) -> None:
        """Close the evaluation, if it is this trial's."""
        if self._job is not None and self._job.number == number:
            self.close()

    def close(self) -> None:
        """Close the evaluation, if one runs."""
        evaluation = self._evaluation
        self._forget()
        if evaluation is not None:
            evaluation.close()

    def _forget(self) -> None:
        self._job = self._evaluation = None

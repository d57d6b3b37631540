"""What every executor does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError, StudyError
from starsearch.evaluators.evaluator import WHOLE, Evaluation, Evaluator, TrainingPart
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement
from starsearch.progress import Progress
from starsearch.recipe import Recipe
from starsearch.search.executor import Executor, Failure, Job, News

MakeExecutor = Callable[[Evaluator], Executor]


def echo(candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE) -> Evaluation:  # noqa: ARG001
    """Return the seed; recipes of 2 and 3 epochs ask for the candidate's and for nobody's fault instead."""
    yield Progress(fraction=0.0, stage="thinking")
    if candidate.recipe.epochs == 2:
        raise EvaluationError("the candidate's fault")
    if candidate.recipe.epochs == 3:
        raise StudyError("nobody can evaluate here")
    yield Progress(fraction=1.0, stage="thinking")
    return (Measurement(name="seed", value=seed),)


def job(number: int, *, epochs: int = 1) -> Job:
    """Return a job for `echo` whose seed is its number."""
    candidate = Candidate(architecture=Architecture.of(), recipe=Recipe(epochs=epochs))
    return Job(number=number, candidate=candidate, seed=number, weights=None, part=WHOLE)


class ExecutorContract:
    """An executor runs up to its capacity of jobs, and says what happens in each up to its last news."""

    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        """From an evaluator to the executor; override it."""
        raise NotImplementedError

    @pytest.fixture
    def executor(self, make_executor: MakeExecutor) -> Iterator[Executor]:
        """The executor of `echo`, closed at the end."""
        made = make_executor(echo)
        yield made
        made.close()

    def finish(self, executor: Executor, running: set[int]) -> dict[int, list[News]]:
        """Return the news of running jobs by number, up to the last of each."""
        told: dict[int, list[News]] = {number: [] for number in running}
        while running:
            if (said := executor.next()) is not None:
                number, news = said
                assert number in running, "nothing follows a job's last news"
                told[number].append(news)
                running = running if isinstance(news, Progress) else running - {number}
        return told

    def test_each_job_tells_its_progress_and_last_its_readings(self, executor: Executor) -> None:
        """As many jobs as there is room for, twice."""
        for first in (0, 100):
            numbers = range(first, first + max(1, executor.capacity))
            for number in numbers:
                executor.submit(job(number))
            for number, told in self.finish(executor, set(numbers)).items():
                assert told[-1] == (Measurement(name="seed", value=number),)
                fractions = [one.fraction for one in told if isinstance(one, Progress)]
                assert fractions == sorted(fractions)
                assert len(fractions) == len(told) - 1

    def test_a_candidates_error_is_its_failure_and_the_next_job_runs(self, executor: Executor) -> None:
        """The reason is one line for the user, the traceback for a file."""
        executor.submit(job(1, epochs=2))
        failure = self.finish(executor, {1})[1][-1]
        assert isinstance(failure, Failure)
        assert failure.reason == "EvaluationError: the candidate's fault"
        assert "Traceback" in failure.log
        assert not failure.lost
        executor.submit(job(2))
        assert self.finish(executor, {2})[2][-1] == (Measurement(name="seed", value=2),)

    def test_an_error_that_is_no_candidates_fault_leaves_it(self, executor: Executor) -> None:
        """A full disk ends the study, not one trial after the other."""
        executor.submit(job(1, epochs=3))
        with pytest.raises(StudyError, match="nobody can evaluate here"):
            self.finish(executor, {1})

    def test_it_is_closed_while_a_job_runs_and_twice(self, make_executor: MakeExecutor) -> None:
        """Ctrl-C closes it at any moment."""
        executor = make_executor(echo)
        executor.submit(job(1))
        executor.close()
        executor.close()

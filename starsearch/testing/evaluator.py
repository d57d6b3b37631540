"""What every evaluator does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray import cloudpickle

from starsearch.candidate import Candidate
from starsearch.evaluators.evaluator import Evaluator
from starsearch.families.text import parse_architecture
from starsearch.measurement import Reading
from starsearch.progress import Progress, follow
from starsearch.recipe import Recipe


class EvaluatorContract:
    """An evaluator yields its progress, returns readings with their units in their names, and repeats for a seed."""

    unrepeatable: tuple[str, ...] = ("images_per_second",)
    """Names of readings that differ from run to run; latencies always do."""

    @pytest.fixture
    def evaluator(self) -> Evaluator:
        """The evaluator, a callable as `starsearch.evaluators.evaluator.Evaluator` is; override it."""
        raise NotImplementedError

    @pytest.fixture
    def candidate(self) -> Candidate:
        """A candidate that it judges quickly."""
        architecture = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2")
        return Candidate(architecture=architecture, recipe=Recipe(epochs=1, batch_size=16))

    def evaluate(self, evaluator: Evaluator, candidate: Candidate) -> tuple[list[Progress], tuple[Reading, ...]]:
        """Return what an evaluation with seed 0 yields and what it returns."""
        progress: list[Progress] = []
        return progress, follow(evaluator(candidate, seed=0, weights=None), progress.append)

    def test_progress_never_falls_and_readings_are_finite_and_named_once(
        self, evaluator: Evaluator, candidate: Candidate
    ) -> None:
        """The first promise: what the driver shows and what it records."""
        progress, readings = self.evaluate(evaluator, candidate)
        fractions = [one.fraction for one in progress]
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 1 for fraction in fractions)
        assert all(one.stage for one in progress), "a stage says what is being done"
        assert readings, "an evaluation without readings is a failed one: raise EvaluationError"
        assert len({one.name for one in readings}) == len(readings)
        assert all(math.isfinite(one.value) for one in readings)

    def test_the_same_seed_gives_the_same_readings_also_in_another_process(
        self, evaluator: Evaluator, candidate: Candidate
    ) -> None:
        """The second: Ray sends the evaluator to a worker, and a retry is the same trial."""
        first = self._repeatable(evaluator, candidate)
        sent: Any = cloudpickle
        assert self._repeatable(sent.loads(sent.dumps(evaluator)), candidate) == first

    def test_it_can_be_stopped_midway_and_used_again(self, evaluator: Evaluator, candidate: Candidate) -> None:
        """The third: a pruned or interrupted trial closes its evaluation."""
        evaluation = evaluator(candidate, seed=0, weights=None)
        next(evaluation, None)
        evaluation.close()
        assert self._repeatable(evaluator, candidate)

    def _repeatable(self, evaluator: Evaluator, candidate: Candidate) -> dict[str, Reading]:
        _, readings = self.evaluate(evaluator, candidate)
        varying = [one.name for one in readings if one.name in self.unrepeatable or "latency_ms" in one.name]
        return {one.name: one for one in readings if one.name not in varying}

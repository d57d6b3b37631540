"""`Evaluator`: the one interface between the driver and what a candidate costs and achieves."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Protocol

from starsearch.candidate import Candidate
from starsearch.measurement import Progress, Reading

Evaluation = Generator[Progress, None, tuple[Reading, ...]]


class Evaluator(Protocol):
    """Judges a candidate; knows no sampler, no study and no storage."""

    def __call__(self, candidate: Candidate, *, seed: int, weights: Path | None) -> Evaluation:
        """A generator that yields progress and returns what was measured or predicted.

        Args:
            candidate: what is judged.
            seed: of everything random in the evaluation.
            weights: file (safetensors) to which the trained weights are written, or None.

        Raises:
            EvaluationError: the candidate's fault, in words for the user; other exceptions fail the trial too.
        """
        ...

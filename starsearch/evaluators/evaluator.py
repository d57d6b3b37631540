"""`Evaluator`: the one interface between the driver and what a candidate costs and achieves."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from starsearch.candidate import Candidate
from starsearch.measurement import Reading
from starsearch.progress import Progress
from starsearch.recipe import Fidelity

Evaluation = Generator[Progress, None, tuple[Reading, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPart:
    """Which part of a candidate's training one evaluation is.

    Attributes:
        until: epochs of the training after which it stops; None for its end.
        checkpoint: file from which the training goes on where it is there, and in which it is kept; None for neither.
        resolution: in pixels, of this part; None for the fidelity's.
        samples: training images of this part; None for the fidelity's.
        of_rungs: the parts the whole training has, in words; a checkpoint of others is not taken.
        known: readings of an earlier part that hold for the whole (a latency), so that they are not taken again.
        start: file of trained weights with which the training begins; None where it begins from scratch.
    """

    until: int | None = None
    checkpoint: Path | None = None
    resolution: int | None = None
    samples: int | None = None
    of_rungs: str = ""
    known: tuple[Reading, ...] = ()
    start: Path | None = None

    def of(self, fidelity: Fidelity) -> Fidelity:
        """`fidelity` as this part has it."""
        return replace(
            fidelity,
            resolution=self.resolution or fidelity.resolution,
            samples=self.samples or fidelity.samples,
        )


WHOLE = TrainingPart()


class Evaluator(Protocol):
    """Judges a candidate; knows no sampler, no study and no storage."""

    def __call__(
        self, candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE
    ) -> Evaluation:
        """A generator that yields progress and returns what was measured or predicted.

        Args:
            candidate: what is judged.
            seed: of everything random in the evaluation.
            weights: file (safetensors) to which the trained weights are written, or None.
            part: how far the training goes, and from where.

        Raises:
            EvaluationError: the candidate's fault, in words for the user; other exceptions fail the trial too.
        """
        ...

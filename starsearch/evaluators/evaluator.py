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
from starsearch.resolution import Resolution


class Untrained(tuple[Reading, ...]):
    """What an evaluation returns that stops before the training, since these readings break one of the constraints."""

    __slots__ = ()


Evaluation = Generator[Progress, None, tuple[Reading, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPart:
    """Which part of a candidate's training one evaluation is."""

    until: int | None = None  # the epoch after which it stops; None for the training's end
    # the file from which the training resumes, if it is there, and in which it is kept; None for neither
    checkpoint: Path | None = None
    resolution: Resolution | None = None  # this part's, in pixels; None for the fidelity's
    samples: int | None = None  # training images of this part; None for the fidelity's
    of_rungs: str = ""  # the parts the whole training has, in words; a checkpoint of other parts is not taken
    # readings of an earlier part that hold for the whole (a latency), and are not taken again
    known: tuple[Reading, ...] = ()
    # the file of trained weights with which the training begins; None for a training from scratch
    start: Path | None = None

    def of(self, fidelity: Fidelity) -> Fidelity:
        """Return `fidelity` as this part has it."""
        resolution, samples = self.resolution or fidelity.resolution, self.samples or fidelity.samples
        return replace(fidelity, resolution=resolution, samples=samples)


WHOLE = TrainingPart()


class Evaluator(Protocol):
    """Judges a candidate; knows no sampler, no study and no storage."""

    def __call__(
        self, candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE
    ) -> Evaluation:
        """Return a generator that yields progress and returns what was measured or predicted, or `Untrained`.

        Args:
            candidate: what is judged.
            seed: what everything random in the evaluation follows from.
            weights: the file (safetensors) to which the trained weights are written, or None.
            part: how far the training goes, and from where.

        Raises:
            EvaluationError: the candidate's fault, in words for the user; other exceptions fail the trial too.
        """
        ...

"""Whose trained weights stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import StudyError
from starsearch.objective import Constraint, Objective, miss
from starsearch.pareto import non_dominated
from starsearch.search.outcome import Outcome
from starsearch.study.spec import KeepWeights

_FOLDER = "weights"

FloatArray = NDArray[np.float64]


class WeightsShelf:
    """The weight files of a study: `weights/trial-N.safetensors` in its folder.

    Args:
        folder: the study's; None keeps no weights.
        keep: whose are kept.
        objectives, constraints: of the study.
    """

    def __init__(
        self,
        folder: Path | None,
        keep: KeepWeights,
        objectives: tuple[Objective, ...],
        constraints: tuple[Constraint, ...] = (),
    ) -> None:
        self._folder = None if keep == "none" else folder
        self._keep = keep
        self._objectives = objectives
        self._limits = {name: limit for one in constraints for name, limit in one.limits.items()}
        self._kept: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._anchors: set[int] = set()

    def place(self, number: int) -> Path | None:
        """Where an evaluation writes the weights of trial `number`; its folder is made.

        Raises:
            StudyError: the folder cannot be made.
        """
        if self._folder is None:
            return None
        path = self._folder / self._name(number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"The folder {path.parent} for trained weights cannot be made: {error.strerror}. Make {self._folder} "
                "writable, or set search.keep_weights to none."
            ) from error
        return path

    def written(self, number: int) -> str | None:
        """The file of trial `number`, relative to the study's folder; None where there is none."""
        if self._folder is None or not (self._folder / self._name(number)).is_file():
            return None
        return self._name(number)

    def add(self, number: int, outcome: Outcome, *, anchor: bool) -> None:
        """Take note of a complete trial."""
        self._outcomes[number] = outcome
        if anchor:
            self._anchors.add(number)

    def clear(self, *, running: Iterable[int] = ()) -> None:
        """Delete the weights of trials that are not kept: failed, cut off, or no longer on the front.

        While no trial is feasible, the front is the one that misses its constraints by least.

        Args:
            running: trials whose evaluations may be writing theirs; they are left alone.
        """
        if self._folder is None:
            return
        kept = set(self._outcomes) if self._keep == "all" else self._front() | self._anchors
        kept |= set(running)
        for path in (self._folder / _FOLDER).glob("trial-*.safetensors*"):
            number = path.name.removeprefix("trial-").split(".")[0]
            if not number.isdigit() or int(number) not in kept:
                path.unlink(missing_ok=True)

    def _front(self) -> set[int]:
        """The trials that no other surely dominates, within what predictions leave open; all of the front are.

        Measuring may show a dominating one to break a constraint, so that only one that surely keeps them counts.
        """
        feasible = {number: outcome for number, outcome in self._outcomes.items() if outcome.feasible}
        if not feasible:
            misses = {number: miss(one.constraints, self._limits) for number, one in self._outcomes.items()}
            nearest = min(misses, key=lambda number: (misses[number], number), default=None)
            return set() if nearest is None else {nearest}
        best, worst = self._ends(list(feasible.values()))
        worst = worst[[outcome.is_surely_feasible for outcome in feasible.values()]]
        surest = worst[non_dominated(worst)] if len(worst) else worst
        return {
            number
            for number, losses in zip(feasible, best, strict=True)
            if not ((surest <= losses).all(axis=1) & (surest < losses).any(axis=1)).any()
        }

    def _ends(self, outcomes: Sequence[Outcome]) -> tuple[FloatArray, FloatArray]:
        """The least and the greatest losses, each (n, m), within the outcomes' spans."""
        signs = np.array([1.0 if o.direction == "minimize" else -1.0 for o in self._objectives])
        losses = np.array([outcome.spans for outcome in outcomes]) * signs[None, :, None]
        return losses.min(axis=2), losses.max(axis=2)

    @staticmethod
    def _name(number: int) -> str:
        return f"{_FOLDER}/trial-{number}.safetensors"

"""`Ladder`: which candidates wait at which rung, and which of them goes on next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from starsearch.candidate import Candidate
from starsearch.measurement import Measurement, Reading
from starsearch.objective import is_latency
from starsearch.pareto import next_promotion
from starsearch.records import recorded_candidate, recorded_measurements
from starsearch.search.outcome import Outcome, judge
from starsearch.space.parameters import Value
from starsearch.study.spec import Rung, StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.evaluators.evaluator import Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A candidate that has reached a rung.

    Attributes:
        number: of the trial that stopped there.
        rung: from 0.
        candidate, params: what was evaluated.
        outcome: at the rung.
        readings: taken there.
        curve: what its training has reached so far, by epoch.
    """

    number: int
    rung: int
    candidate: Candidate
    params: Mapping[str, Value]
    outcome: Outcome
    readings: tuple[Reading, ...]
    curve: Mapping[int, float]


@dataclass(slots=True)
class _Level:
    """Everybody who has reached one rung, in the order they came."""

    waiting: list[Waiting] = field(default_factory=list)
    promoted: list[bool] = field(default_factory=list)


class Ladder:
    """The rungs of a study with their candidates; without successive halving it has none.

    Args:
        spec: of the study.
        recorded: its trials so far.
    """

    def __init__(self, spec: StudySpec, recorded: Sequence[FrozenTrial]) -> None:
        self._spec = spec
        self._eta = spec.halving.eta if spec.halving else 0
        self._rungs: tuple[Rung, ...] = spec.halving.rungs if spec.halving else ()
        self._levels = [_Level() for _ in self._rungs]
        self._by_number: dict[int, Waiting] = {}
        continued = {trial.user_attrs.get("continues") for trial in recorded}
        for trial in recorded:
            if trial.state.name == "PRUNED" and self._rungs:
                self.reach(_recorded(trial, spec), is_promoted=trial.number in continued)

    def waiting(self, number: int) -> Waiting:
        """Who reached a rung in trial `number`."""
        return self._by_number[number]

    def waiting_keys(self) -> Iterator[str]:
        """Of the candidates that wait at a rung, or have left it; a training that has ended keeps no checkpoint."""
        return (one.candidate.key for one in self._by_number.values())

    def reach(self, waiting: Waiting, *, is_promoted: bool = False) -> None:
        """Somebody has reached a rung."""
        level = self._levels[waiting.rung]
        level.waiting.append(waiting)
        level.promoted.append(is_promoted)
        self._by_number[waiting.number] = waiting

    def next(self) -> Waiting | None:
        """Who may go on now, from the highest rung on which somebody may."""
        for level in reversed(self._levels):
            row = next_promotion(
                self._losses(level),
                promoted=np.array(level.promoted, dtype=bool),
                allowed=np.array([_may_climb(one.outcome) for one in level.waiting], dtype=bool),
                eta=self._eta,
            )
            if row is not None:
                return level.waiting[row]
        return None

    def promote(self, waiting: Waiting) -> None:
        """Somebody goes on."""
        level = self._levels[waiting.rung]
        level.promoted[level.waiting.index(waiting)] = True

    def rung_above(self, waiting: Waiting | None, *, anchor: bool) -> int | None:
        """Of a training from `waiting` (None: from its beginning), the rung it stops at; None for its end.

        Anchors are trained to the end: a front without them says nothing.
        """
        rung = 0 if waiting is None else waiting.rung + 1
        return None if anchor or rung >= len(self._rungs) else rung

    def stretch(self, waiting: Waiting | None, *, anchor: bool, checkpoint: Path | None) -> Stretch:
        """The part of the training from `waiting` to the rung above."""
        from starsearch.evaluators.evaluator import Stretch

        rung = self.rung_above(waiting, anchor=anchor)
        known = () if waiting is None else tuple(one for one in waiting.readings if _holds_for_the_whole(one))
        if rung is None:
            return Stretch(checkpoint=checkpoint, known=known, of_rungs=repr(self._rungs))
        to = self._rungs[rung]
        return Stretch(
            until=to.epochs,
            checkpoint=checkpoint,
            resolution=to.resolution,
            samples=to.samples,
            known=known,
            of_rungs=repr(self._rungs),
        )

    def epochs(self, rung: int) -> int:
        """Trained when `rung` is reached."""
        return self._rungs[rung].epochs

    def _losses(self, level: _Level) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in self._spec.objectives]
        values = [one.outcome.values for one in level.waiting]
        return np.array(values, dtype=float).reshape(len(values), len(signs)) * signs


def _recorded(trial: FrozenTrial, spec: StudySpec) -> Waiting:
    readings = recorded_measurements(trial)
    return Waiting(
        number=trial.number,
        rung=trial.user_attrs["rung"],
        candidate=recorded_candidate(trial, spec.recipe),
        params=trial.params,
        outcome=judge(readings, spec.objectives, spec.constraints),
        readings=readings,
        curve=trial.intermediate_values,
    )


def _may_climb(outcome: Outcome) -> bool:
    """Whether more training can make it feasible: accuracy rises, latency and cost stay what they are."""
    return all(broken <= 0 or "top1" in name or "top5" in name for name, broken in outcome.constraints.items())


def _holds_for_the_whole(reading: Reading) -> bool:
    """Measured of the network, not of its weights."""
    return isinstance(reading, Measurement) and is_latency(reading.name)

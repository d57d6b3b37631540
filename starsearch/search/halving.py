"""`Rungs`: asynchronous successive halving, as far as a study has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from starsearch.evaluators.evaluator import TrainingPart
from starsearch.objective import is_accuracy
from starsearch.pareto import FloatArray, next_promotion
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial


class Rungs:
    """The rungs of a study with the trials that stopped there; without successive halving it has none."""

    def __init__(self, spec: StudySpec, ended: Iterable[Trial]) -> None:
        self._spec = spec
        self._rungs, self._eta = (spec.halving.rungs, spec.halving.eta) if spec.halving else ((), 2)
        # A list a rung: the trials that stopped there, their losses there, and whether they may continue.
        self._reached: list[list[tuple[Trial, tuple[float, ...], bool]]] = [[] for _ in self._rungs]
        self._by_number: dict[int, Trial] = {}
        self._continued: set[int | None] = set()
        for trial in ended:
            self.reach(trial)
            self._continued.add(trial.continues)

    def reach(self, trial: Trial) -> None:
        """Note a trial that has stopped at a rung; others do not matter here."""
        if trial.state == "pruned" and self._rungs:
            assert trial.rung is not None
            row = trial, trial.losses(self._spec.objectives), self._may_continue(trial)
            self._reached[trial.rung].append(row)
            self._by_number[trial.number] = trial

    def next(self, expected: Callable[[Sequence[Trial]], FloatArray] | None = None) -> Trial | None:
        """Return the continuation of a trial that may leave its rung, the highest first; None where none may.

        Args:
            expected: returns the losses, (n, m), by which a rung's trials are ranked; None for those they had there.
        """
        for reached in reversed(self._reached):
            trials = [one for one, _, _ in reached]
            row = next_promotion(
                expected(trials) if expected and trials else np.array([losses for _, losses, _ in reached]),
                promoted=np.array([one.number in self._continued for one in trials], dtype=bool),
                allowed=np.array([may_continue for _, _, may_continue in reached], dtype=bool),
                eta=self._eta,
            )
            if row is not None:
                return self._continue(trials[row])
        return None

    def waiting(self) -> list[Trial]:
        """Return the continuations of all trials that stopped at a rung and may be wanted at the end."""
        every = (row for reached in self._reached for row in reached)
        return [self._continue(one) for one, _, may in every if may and one.number not in self._continued]

    def _continue(self, one: Trial) -> Trial:
        rung = 0 if one.rung is None else one.rung + 1
        return Trial(candidate=one.candidate, params=one.params, continues=one.number, curve=one.curve, rung=rung)

    def begin(self, trial: Trial) -> Trial:
        """Return a trial with the rung at which it stops, and what is known of it from the rung below.

        That is the rung it has, where it was chosen for one or repeats a trial that was cut off, else the first.
        Anchors are trained to the end: a front without them says nothing.
        """
        self._continued.add(trial.continues)
        before = None if trial.continues is None else self._by_number[trial.continues]
        rung = trial.rung if trial.rung is not None else 0 if trial.retry_of is None else len(self._rungs)
        known = () if before is None else before.fixed_readings
        if trial.is_anchor or rung >= len(self._rungs):
            return replace(trial, rung=None, epochs=None, known=known)
        return replace(trial, rung=rung, epochs=self._rungs[rung].epochs, known=known)

    def part(self, trial: Trial, checkpoint: Path | None) -> TrainingPart:
        """Return the part of the training that a trial evaluates."""
        rung = None if trial.rung is None else self._rungs[trial.rung]
        return TrainingPart(
            until=trial.epochs,
            checkpoint=checkpoint,
            resolution=rung.resolution if rung else None,
            samples=rung.samples if rung else None,
            of_rungs=repr(self._rungs),
            known=trial.known,
            start=trial.start,
        )

    def keys(self) -> Iterator[str]:
        """The candidates whose checkpoints may be needed again."""
        return (one.key for one in self._by_number.values())

    def _may_continue(self, trial: Trial) -> bool:
        """Whether more training can make it feasible: accuracy rises, latency and cost stay what they are."""
        violations = trial.violations(self._spec.constraints)
        return all(by <= 0 or is_accuracy(name) for name, by in violations.items())

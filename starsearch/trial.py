"""`Trial`: one evaluation of a candidate, from the moment it is planned until it is a row of the record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError
from starsearch.measurement import Measurement, Reading
from starsearch.objective import Constraint, Objective, is_accuracy, is_latency, losses
from starsearch.space.parameters import Value

State = Literal["running", "complete", "pruned", "fail"]
INTERRUPTED = "interrupted"  # the reason of a trial that Ctrl-C cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One evaluation of a candidate at one fidelity.

    Attributes:
        candidate: the network and its recipe.
        params: the space's parameters that decode to it; empty for an anchor outside the space.
        number: the number in the record; -1 until the trial is started.
        state: "pruned" was stopped at a rung of successive halving.
        rung, epochs: where the training stops, and after how many epochs; None where it runs to its end.
        continues: the number of the stopped trial whose training this one continues.
        retry_of: the number of the lost trial that this one repeats.
        promoted_from: the number of the candidate's trial at the fidelity below.
        start: the file of trained weights with which the training begins.
        known: readings that hold whatever the weights (latencies), so that they are not taken again.
        started: when it was started, with its time zone.
        curve: the first objective that is read during training, by epoch.
        readings: what the evaluation returned.
        seconds: how long it took.
        weights: the file of trained weights, relative to the study's folder.
        reason: why it failed, in one line.
        lost: whether it ended without the candidate being at fault, so that it runs again.
        untrained: whether its evaluation stopped before the training, since what it had read breaks a constraint.
        noted: what the sampler noted on it and needs again when the study is resumed.
    """

    candidate: Candidate
    params: Mapping[str, Value] = field(default_factory=dict)
    number: int = -1
    state: State = "running"
    rung: int | None = None
    epochs: int | None = None
    continues: int | None = None
    retry_of: int | None = None
    promoted_from: int | None = None
    start: Path | None = None
    known: tuple[Reading, ...] = ()
    started: datetime | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    readings: tuple[Reading, ...] = ()
    seconds: float = 0.0
    weights: str | None = None
    reason: str | None = None
    lost: bool = False
    untrained: bool = False
    noted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The candidate's key: equal keys would train to the same network."""
        return self.candidate.key

    @property
    def is_anchor(self) -> bool:
        """Whether a published network is evaluated."""
        return self.candidate.anchor is not None

    @property
    def is_baseline(self) -> bool:
        """Whether a model of timm's is evaluated, of which no search learns."""
        return self.candidate.architecture.family == "timm"

    @property
    def has_result(self) -> bool:
        """Whether the candidate was judged, at a rung or at the end of its training."""
        return self.state in ("complete", "pruned")

    @property
    def values(self) -> dict[str, float]:
        """The readings' values by name, of estimates the lower ends."""
        return {one.name: float(one.ranked) for one in self.readings}

    def reading(self, name: str) -> Reading | None:
        """The reading of this name, if there is one."""
        return next((one for one in self.readings if one.name == name), None)

    def losses(self, objectives: Sequence[Objective]) -> tuple[float, ...]:
        """The objectives' values in their order, all to be minimised; NaN where a reading is missing."""
        return losses({**{one.name: math.nan for one in objectives}, **self.values}, objectives)

    def violations(self, constraints: Sequence[Constraint]) -> dict[str, float]:
        """By how much each bound is broken, by "name.min" and "name.max"; it holds where this is at most 0.

        Bounds of what has no reading are left out.
        """
        known = (one for one in constraints if one.name in self.values)
        return {name: by for one in known for name, by in one.violations(self.values).items()}

    def is_feasible(self, constraints: Sequence[Constraint]) -> bool:
        """Whether the trial has a result that breaks no constraint."""
        return self.has_result and all(by <= 0 for by in self.violations(constraints).values())

    @property
    def fixed_readings(self) -> tuple[Reading, ...]:
        """Measured latencies: they are the network's, so another training of it need not repeat them."""
        return tuple(one for one in self.readings if isinstance(one, Measurement) and is_latency(one.name))

    def again(self) -> Trial:
        """The same evaluation once more, from its checkpoint."""
        return replace(self, number=-1, state="running", retry_of=self.number, seconds=0.0, reason=None, lost=False)


def require(trial: Trial, quantities: Sequence[str]) -> None:
    """Fail a trial whose evaluation left out one of the quantities, or returned one that cannot be."""
    for name in quantities:
        if name not in trial.values:
            returned = ", ".join(trial.values) or "nothing"
            raise EvaluationError(f"The evaluation returned no {name}; it returned {returned}.")
        if not math.isfinite(trial.values[name]):
            raise EvaluationError(f"The evaluation returned {name} = {trial.values[name]}; a finite number is needed.")
        if is_accuracy(name) and not 0 <= trial.values[name] <= 100:
            raise EvaluationError(f"The evaluation returned {name} = {trial.values[name]}; it lies in 0..100 %.")
        reading = trial.reading(name)
        spread = reading.spread if isinstance(reading, Measurement) else None
        if spread is not None and not 0 <= spread < math.inf:
            raise EvaluationError(f"The evaluation returned {name} with the spread {spread}; none, or 0 and more.")

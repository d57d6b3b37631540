"""`Outcome`: what a candidate's measurements mean for the study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starsearch.errors import EvaluationError
from starsearch.measurement import Prediction, Reading
from starsearch.objective import Constraint, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a candidate's measurements mean for the study.

    Attributes:
        values: of the objectives, in their order and natural signs.
        constraints: by how much each bound is broken, by name; feasible where all are ≤ 0.
        spans: within which each value is sure to lie (`sure_span`), least first; (value, value) of a measured one.
            Empty where nobody asks.
        is_surely_feasible: whether no constraint is broken wherever within their spans the predicted quantities lie.
    """

    values: tuple[float, ...]
    constraints: Mapping[str, float]
    spans: tuple[tuple[float, float], ...] = ()
    is_surely_feasible: bool = True

    @property
    def feasible(self) -> bool:
        """Whether no constraint is broken."""
        return _is_feasible(self.constraints)


def judge(
    measurements: Sequence[Reading], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Outcome:
    """The outcome of `measurements`.

    Raises:
        EvaluationError: a quantity that an objective or a constraint is about is missing or not finite.
    """
    values = {one.name: float(one.value) for one in measurements}
    for name in (*(o.name for o in objectives), *(c.name for c in constraints)):
        if name not in values:
            raise EvaluationError(f"The evaluation returned no {name}; it returned {', '.join(values) or 'nothing'}.")
        if not math.isfinite(values[name]):
            raise EvaluationError(f"The evaluation returned {name} = {values[name]}; a finite number is needed.")
    spans = {one.name: sure_span(one) for one in measurements}
    ends = [{name: span[end] for name, span in spans.items()} for end in (0, 1)]
    return Outcome(
        values=tuple(values[o.name] for o in objectives),
        constraints=_violations(constraints, values),
        spans=tuple(spans[o.name] for o in objectives),
        is_surely_feasible=all(_is_feasible(_violations(constraints, end)) for end in ends),
    )


def sure_span(reading: Reading) -> tuple[float, float]:
    """Within which the measured value is sure to lie, as far as decisions go that cannot be taken back.

    One network in ten lies outside its prediction's 90 % interval by definition: twice that, in logarithms.
    """
    if not isinstance(reading, Prediction):
        return reading.value, reading.value
    return reading.low**2 / reading.value, reading.high**2 / reading.value


def _violations(constraints: Sequence[Constraint], values: Mapping[str, float]) -> dict[str, float]:
    return {name: by for constraint in constraints for name, by in constraint.violations(values).items()}


def _is_feasible(violations: Mapping[str, float]) -> bool:
    return all(by <= 0 for by in violations.values())

"""`Outcome`: what a candidate's measurements mean for the study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starsearch.errors import EvaluationError
from starsearch.measurement import Measurement
from starsearch.objective import Constraint, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a candidate's measurements mean for the study.

    Attributes:
        values: of the objectives, in their order and natural signs.
        constraints: by how much each bound is broken, by name; feasible where all are ≤ 0.
    """

    values: tuple[float, ...]
    constraints: Mapping[str, float]

    @property
    def feasible(self) -> bool:
        """Whether no constraint is broken."""
        return all(violation <= 0 for violation in self.constraints.values())


def judge(
    measurements: Sequence[Measurement], objectives: Sequence[Objective], constraints: Sequence[Constraint]
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
    violations: dict[str, float] = {}
    for constraint in constraints:
        violations.update(constraint.violations(values))
    return Outcome(values=tuple(values[o.name] for o in objectives), constraints=violations)

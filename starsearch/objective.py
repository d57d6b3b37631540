"""What a study optimises and what it must not exceed. Directions are flipped once, here; below all is minimised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A measured quantity with a direction.

    Attributes:
        name: of the measurement, with its unit: "top1_percent", "latency_ms", "macs", "num_params".
        direction: "maximize" or "minimize".
        device: what it is measured on; None where the quantity has no device.
    """

    name: str
    direction: Direction
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """Inclusive bounds of a measured quantity; None is unbounded."""

    name: str
    low: float | None = None
    high: float | None = None

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much each bound is broken, by "name.min" and "name.max"; feasible where all are ≤ 0."""
        value = values[self.name]
        found = {}
        if self.low is not None:
            found[f"{self.name}.min"] = self.low - value
        if self.high is not None:
            found[f"{self.name}.max"] = value - self.high
        return found


def losses(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives' values in their order, signs flipped so that less is better."""
    return tuple(values[o.name] if o.direction == "minimize" else -values[o.name] for o in objectives)

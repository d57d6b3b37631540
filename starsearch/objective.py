"""What a study optimises and what it must not exceed. Directions are flipped here, so that all else minimises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]
LATENCY = "latency_ms"
IMAGENET_TOP1 = "imagenet_top1_percent"  # estimated or published, never measured here
INT8_LATENCY = "int8_latency_ms"
# The device that needs no profile: what it takes is measured in the trial.
THIS_MACHINE = "this-machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A measured quantity with a direction.

    Attributes:
        name: the reading's name, with its unit: "top1_percent", "macs", "num_params", "latency_ms", and of a further
            device "latency_ms@LABEL".
        direction: "maximize" or "minimize".
        device: "this-machine", or the name of the profile it is predicted from; None where it has no device.
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

    @property
    def limits(self) -> dict[str, float]:
        """The bounds there are, by "name.min" and "name.max"."""
        bounds = {f"{self.name}.min": self.low, f"{self.name}.max": self.high}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def __str__(self) -> str:
        """The bounds in words: "at most 1.2e+09"."""
        words = {".min": "at least", ".max": "at most"}
        return ", ".join(f"{words[name[-4:]]} {limit:g}" for name, limit in self.limits.items())

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return by how much each bound is broken, by "name.min" and "name.max"; feasible where all are ≤ 0."""
        value = values[self.name]
        return {name: limit - value if name.endswith(".min") else value - limit for name, limit in self.limits.items()}


def miss(excess: Mapping[str, float], limits: Mapping[str, float]) -> float:
    """Return by what share of its limit the worst broken constraint is broken; 0 where none is.

    Args:
        excess: by how much each bound is broken, by "name.min" and "name.max".
        limits: the bounds, by the same names.
    """
    # Rounded, so that noise of floating point does not order equal ones.
    return round(max((by / (abs(limits[name]) or 1.0) for name, by in excess.items() if by > 0), default=0.0), 9)


def is_latency(name: str) -> bool:
    """Return whether `name` is a network's latency on some device: "latency_ms" or "latency_ms@LABEL"."""
    return name == LATENCY or device_label(name) is not None


def is_accuracy(name: str) -> bool:
    """Whether a quantity is the accuracy that training reaches, which the posterior estimates."""
    return "top1" in name or "top5" in name


def device_label(name: str) -> str | None:
    """Return the label of "latency_ms@LABEL"; None for every other name, "latency_ms" among them."""
    stem, at, label = name.partition("@")
    return label if at and stem == LATENCY else None


def losses(values: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the objectives' values in their order, signs flipped so that less is better."""
    return tuple(values[o.name] if o.direction == "minimize" else -values[o.name] for o in objectives)

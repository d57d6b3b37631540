"""What an evaluation returns: a `Reading`, measured or predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measured quantity of one candidate. The unit is part of the name: `latency_ms`, `top1_percent`, `macs`.

    Attributes:
        name: the quantity with its unit.
        value: the median, mean or count.
        runs: how many readings `value` stands for.
        spread: standard error of `value` in its unit; None where there is none (a count).
        device: what it was measured on; None where the quantity has no device.
    """

    name: str
    value: float
    runs: int = 1
    spread: float | None = None
    device: str | None = None

    @property
    def ranked(self) -> float:
        """The value by which candidates are compared."""
        return self.value


def accuracy_measurement(name: str, percent: float, *, num_images: int | None) -> Measurement:
    """Return an accuracy with the binomial standard error of the images it was judged on, where their number is known.

    The error says what other images of the same kind would change, not what another seed would. It is that of two
    more hits and two more misses (Agresti & Coull 1998), so that 100 % of a few images is not certain.
    """
    if num_images is None:
        return Measurement(name=name, value=percent)
    share = (percent / 100 * num_images + 2) / (num_images + 4)
    return Measurement(
        name=name, value=percent, runs=num_images, spread=100 * math.sqrt(share * (1 - share) / (num_images + 4))
    )


def trained_accuracies(top1: float, top5: float, *, num_images: int | None, num_classes: int) -> list[Measurement]:
    """Return top-1 and top-5 in percent; of five classes or fewer no top-5, which is 100 % of any network."""
    percents = {"top1_percent": top1} | ({"top5_percent": top5} if num_classes > 5 else {})
    return [accuracy_measurement(name, percent, num_images=num_images) for name, percent in percents.items()]


def is_told_apart(difference: float, *errors: float | None) -> bool:
    """Return whether a difference of two values is at least twice its standard error.

    `errors` are the values' standard errors, None or NaN for a value that has none.
    """
    known = (one for one in errors if one is not None and not math.isnan(one))
    return bool(abs(difference) >= 2 * math.hypot(*known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A quantity of one candidate that was not measured here.

    Attributes:
        name: the quantity with its unit.
        value: the best guess, or what was published.
        low, high: ends of the 90 % prediction interval, in the unit of `value`.
        device: the device it was predicted for, in words; "" where the quantity has none.
        parts: the share of `value` that each sort of work takes; empty where that is not known.
        kind: "predicted" from a device's profile, "estimated" from evidence about accuracy, or "published".
    """

    name: str
    value: float
    low: float
    high: float
    device: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    kind: Literal["predicted", "estimated", "published"] = "predicted"

    @property
    def ranked(self) -> float:
        """The value by which candidates are compared: of an estimate its lower end, so that no evidence is no gain."""
        return self.low if self.kind == "estimated" else self.value


Reading = Measurement | Prediction


def prediction_error_percent(predicted: float, measured: float) -> float:
    """Return how far `predicted` lies above `measured`, in percent of the latter."""
    return 100 * (predicted / measured - 1)

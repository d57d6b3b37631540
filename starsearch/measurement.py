"""What an evaluation says while it runs (`Progress`) and when it ends (a `Reading`: measured or predicted)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measured quantity of one candidate. The unit is part of the name: `latency_ms`, `top1_percent`, `macs`.

    Attributes:
        name: what was measured, with its unit.
        value: the median, mean or count.
        runs: how many readings `value` stands for.
        spread: standard error of `value` in its unit; None where there is none (a count, a single training).
        device: what it was measured on; None where the quantity has no device.
    """

    name: str
    value: float
    runs: int = 1
    spread: float | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A quantity of one candidate that was computed from a device's profile, not measured.

    Attributes:
        name: what was predicted, with its unit.
        value: the best guess.
        low, high: ends of the 90 % prediction interval, in the unit of `value`.
        device: what it was predicted for, in words.
    """

    name: str
    value: float
    low: float
    high: float
    device: str


Reading = Measurement | Prediction


def prediction_error_percent(predicted: float, measured: float) -> float:
    """How far `predicted` lies above `measured`, in percent of the latter."""
    return 100 * (predicted / measured - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        fraction: of the whole evaluation, 0 to 1.
        stage: what is being done, for the eyes ("training", "validation", "latency").
        epoch: set once an epoch has been validated: its number, counted from 1; else None.
        values: readings at this moment by name with unit; with `epoch` set at least `top1_percent`,
            `top5_percent` and `train_loss`.
    """

    fraction: float
    stage: str
    epoch: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)

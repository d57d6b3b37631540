"""Is a network better than another? Trainings over several seeds and paired latencies, compared by intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from starsearch.latency.statistics import Interval

Hits = NDArray[np.bool_]
_COVERAGE = 0.95
# Standard error, as a share, that two measurements of one network have beyond what the pairs of each show.
_REPEATS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A network with what its trainings came to.

    Attributes:
        name: what the table calls it.
        hits: (seeds, images), whether each training's network knew each validation image; the same images for all.
        ms, ms_spread: its latency and the standard error of that, on one scale for all.
        failure: why it has no figures; empty where it has.
    """

    name: str
    hits: Hits = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    ms: float = math.nan
    ms_spread: float = math.nan
    num_params: int = 0
    macs: int = 0
    failure: str = ""


def mean_interval(values: Sequence[float]) -> Interval:
    """Return Student's 95 % interval of the mean of trainings that differ in their seed; NaN of a single one."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf((1 + _COVERAGE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else math.nan
    return Interval(low=mean - half, high=mean + half, coverage=_COVERAGE)


def accuracy_difference(one: Hits, other: Hits) -> Interval:
    """Return the 95 % interval of the difference of two networks' mean top-1, in percentage points.

    Its variance has three parts: that of the trainings of either network (none is known of a single seed) and that of
    the images, which both networks have seen, so that it is the variance of the difference image by image. The degrees
    of freedom are Welch's and Satterthwaite's (Satterthwaite 1946, Biometrics Bulletin 2(6)).

    Args:
        one, other: (seeds, images); the seeds may be as many as they like, the images are the same.
    """
    from scipy.stats import t

    images = one.mean(axis=0) - other.mean(axis=0)
    parts = [(float(np.var(images, ddof=1)) / len(images), len(images) - 1)]
    parts += [
        (float(np.var(hits.mean(axis=1), ddof=1)) / len(hits), len(hits) - 1) for hits in (one, other) if len(hits) > 1
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts) if variance else 1.0
    half = float(t.ppf((1 + _COVERAGE) / 2, freedom)) * variance**0.5
    mean = float(images.mean())
    return Interval(low=100 * (mean - half), high=100 * (mean + half), coverage=_COVERAGE)


def latency_difference(one: Contender, other: Contender) -> Interval:
    """Return the 95 % interval of the difference of two latencies, in milliseconds."""
    errors = [math.hypot(each.ms_spread, _REPEATS * each.ms) for each in (one, other)]
    half, mean = 1.96 * math.hypot(*errors), one.ms - other.ms
    return Interval(low=mean - half, high=mean + half, coverage=_COVERAGE)


def verdict(difference: Interval, *, less_is_better: bool = False) -> str:
    """Return "better", "worse" or, of an interval that holds zero, "not told apart"."""
    if difference.low <= 0 <= difference.high:
        return "not told apart"
    return "better" if (difference.high < 0) == less_is_better else "worse"


def verdict_table(chosen: Contender, others: Sequence[Contender]) -> pd.DataFrame:
    """Return a row a network, the chosen first; `top1` and `latency` say how the chosen one does against it.

    The columns: network, seeds, top1_percent with _low and _high (95 % of the mean over the seeds), latency_ms and
    _spread, num_params, macs, top1_difference and latency_difference (chosen less this one) with _low and _high, top1
    and latency (`verdict`), failure.
    """
    rows = []
    for one in (chosen, *others):
        row: dict[str, Any] = {"network": one.name, "seeds": len(one.hits), "num_params": one.num_params}
        row |= {"macs": one.macs, "failure": one.failure}
        if not one.failure:
            percents = 100 * one.hits.mean(axis=1)
            spread = mean_interval(percents.tolist())
            row |= {"top1_percent": percents.mean(), "top1_percent_low": spread.low, "top1_percent_high": spread.high}
            row |= {"latency_ms": one.ms, "latency_ms_spread": one.ms_spread}
        if one is not chosen and not one.failure:
            accuracy, latency = accuracy_difference(chosen.hits, one.hits), latency_difference(chosen, one)
            for name, found in (("top1_difference", accuracy), ("latency_difference", latency)):
                row |= {name: (found.low + found.high) / 2, f"{name}_low": found.low, f"{name}_high": found.high}
            row |= {"top1": verdict(accuracy), "latency": verdict(latency, less_is_better=True)}
        rows.append(row)
    return pd.DataFrame(rows)


def verdict_cells(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return the table in words, a mapping of heading to text a row."""
    cells = []
    for row in table.to_dict("records"):
        named, failure = {"network": str(row["network"])}, row["failure"]
        if failure:
            cells.append(
                named | {"top-1 %": f"failed: {failure}", "latency ms": "", "M params": "", "ours against it": ""}
            )
            continue
        half = (row["top1_percent_high"] - row["top1_percent_low"]) / 2
        known = f" ± {half:.2f}" if half == half else ""
        named["top-1 %"] = f"{row['top1_percent']:.2f}{known}"
        named["latency ms"] = f"{row['latency_ms']:.2f} ± {1.96 * row['latency_ms_spread']:.2f}"
        named["M params"] = f"{row['num_params'] / 1e6:.2f}"
        against = ""
        if isinstance(row.get("top1"), str):
            bounds = [
                f"{row[f'{name}_difference_{end}']:+.2f}" for name in ("top1", "latency") for end in ("low", "high")
            ]
            low, high, low_ms, high_ms = (bound.replace("-", "−") for bound in bounds)
            against = f"top-1 {row['top1']} ({low} to {high} pp), latency {row['latency']} ({low_ms} to {high_ms} ms)"
        cells.append(named | {"ours against it": against})
    return cells

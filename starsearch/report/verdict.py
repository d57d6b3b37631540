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
    """Return Student's 95 % interval, within 0 to 100, of the mean of trainings' percentages; NaN of a single one."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf((1 + _COVERAGE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else math.nan
    low, high = np.clip((mean - half, mean + half), 0, 100).tolist()
    return Interval(low=low, high=high, coverage=_COVERAGE)


def accuracy_difference(one: Hits, other: Hits) -> Interval:
    """Return the 95 % interval of the difference of two networks' mean top-1, in percentage points.

    Its variance has three parts: that of the trainings of either network (none is known of a single seed) and that of
    the images, which both networks have seen, so that it is the variance of the difference image by image. Each part
    counts with the quantile of its own degrees of freedom (Banerjee 1960, Sankhyā 22): however few the seeds, the
    interval is conservative, and never narrower than that of one part alone. It is kept within -100 to 100.

    Args:
        one, other: (seeds, images); the seeds may be as many as they like, the images are the same.
    """
    from scipy.stats import t

    images = one.mean(axis=0) - other.mean(axis=0)
    parts = [(float(np.var(images, ddof=1)) / len(images), len(images) - 1)]
    parts += [
        (float(np.var(hits.mean(axis=1), ddof=1)) / len(hits), len(hits) - 1) for hits in (one, other) if len(hits) > 1
    ]
    half = math.sqrt(sum(part * float(t.ppf((1 + _COVERAGE) / 2, free)) ** 2 for part, free in parts))
    mean = float(images.mean())
    low, high = np.clip((100 * (mean - half), 100 * (mean + half)), -100, 100).tolist()
    return Interval(low=low, high=high, coverage=_COVERAGE)


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
            row |= {"top1_difference": 100 * (chosen.hits.mean() - one.hits.mean())}
            row |= {"top1_difference_low": accuracy.low, "top1_difference_high": accuracy.high}
            row |= {"latency_difference": chosen.ms - one.ms}
            row |= {"latency_difference_low": latency.low, "latency_difference_high": latency.high}
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
        low, high = row["top1_percent_low"], row["top1_percent_high"]
        known = f" ± {(high - low) / 2:.2f}" if low == low else ""
        if low == 0 or high == 100:  # cut off there: no longer as wide on either side
            known = f" ({low:.2f} to {high:.2f})"
        named["top-1 %"] = f"{row['top1_percent']:.2f}{known}"
        named["latency ms"] = f"{row['latency_ms']:.2f} ± {1.96 * row['latency_ms_spread']:.2f}"
        named["M params"] = f"{row['num_params'] / 1e6:.2f}"
        against = ""
        if isinstance(row.get("top1"), str):
            bounds = [
                f"{row[f'{name}_difference_{end}']:+.2f}" for name in ("top1", "latency") for end in ("low", "high")
            ]
            bounds = [bound.replace("-", "−") for bound in bounds]
            against = "top-1 {} ({} to {} pp)".format(row["top1"], *bounds[:2])
            against += ", latency {} ({} to {} ms)".format(row["latency"], *bounds[2:])
        cells.append(named | {"ours against it": against})
    return cells

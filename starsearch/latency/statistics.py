"""The median of repeated readings and how well it is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_OUTLIER_SIGMAS = 5.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval; `coverage` is its exact probability for independent readings."""

    low: float
    high: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Repeated readings in short.

    Attributes:
        median: of the readings.
        spread: standard error of `median`.
        interval: of the median, 95 %.
        outliers: readings further than five robust standard deviations from the median; they count as all others
            do, since a median does not mind them, but many of them say that the machine was not alone.
    """

    median: float
    spread: float
    interval: Interval
    outliers: int

    @property
    def relative_half_width(self) -> float:
        """Of the interval, as a share of the median."""
        return (self.interval.high - self.interval.low) / (2 * self.median)


def summarize(readings: Sequence[float]) -> Summary:
    """The median with its standard error and 95 % interval.

    The standard error is the interval's half width by the normal quantile of its exact coverage (McKean and
    Schrader 1984; Bonett and Price 2002, Psychological Methods 7(3)): unlike one from the variance it does not
    mind outliers, unlike one from the median absolute deviation it needs no symmetric distribution.

    Args:
        readings: at least two.

    Raises:
        ValueError: fewer.
    """
    interval = median_interval(readings)
    quantile = statistics.NormalDist().inv_cdf((1 + interval.coverage) / 2)
    return Summary(
        median=statistics.median(readings),
        spread=(interval.high - interval.low) / (2 * quantile),
        interval=interval,
        outliers=count_outliers(readings),
    )


def median_interval(readings: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The narrowest symmetric interval between order statistics that holds the median with this confidence.

    As many independent readings lie below the true median as heads fall in n throws of a coin, whatever their
    distribution; so the k-th smallest and the k-th largest miss it with probability 2 P(heads < k). Fewer than six
    readings cannot have 95 %: then it is their whole range, with the coverage that has.

    Args:
        readings: at least two.
        confidence: least coverage, below 1.

    Raises:
        ValueError: fewer than two readings.
    """
    n = len(readings)
    if n < 2:
        raise ValueError(f"An interval takes at least two readings; got {n}.")
    ordered = sorted(readings)
    rank, missed = 1, 2 / 2**n
    while rank < n // 2:
        missed_further_in = missed + 2 * math.comb(n, rank) / 2**n
        if 1 - missed_further_in < confidence:
            break
        rank, missed = rank + 1, missed_further_in
    return Interval(low=ordered[rank - 1], high=ordered[n - rank], coverage=1 - missed)


def count_outliers(readings: Sequence[float]) -> int:
    """How many lie further than five robust standard deviations (1.4826 × MAD) from the median."""
    centre = statistics.median(readings)
    deviations = [abs(reading - centre) for reading in readings]
    bound = _OUTLIER_SIGMAS * _MAD_TO_SIGMA * statistics.median(deviations)
    return sum(deviation > bound for deviation in deviations)

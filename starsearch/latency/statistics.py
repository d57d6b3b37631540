"""The median of repeated readings and how well it is known."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_CONFIDENCE = 0.95
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

    Outliers lie more than five robust standard deviations from the median. They count like all others, since they
    hardly move a median; but many of them say that the machine was not alone.
    """

    median: float
    spread: float  # standard error of the median
    interval: Interval  # 95 % interval of the median
    outliers: int

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width, as a share of the median."""
        return (self.interval.high - self.interval.low) / (2 * self.median)


def summarize(readings: Sequence[float]) -> Summary:
    """Return the median of at least two readings, with its standard error and 95 % interval.

    The standard error is the interval's half width by the normal quantile of its exact coverage (McKean and
    Schrader 1984; Bonett and Price 2002, Psychological Methods 7(3)): unlike one from the variance it does not
    mind outliers, unlike one from the median absolute deviation it needs no symmetric distribution.
    """
    interval = _median_interval(readings)
    quantile = statistics.NormalDist().inv_cdf((1 + interval.coverage) / 2)
    median = statistics.median(readings)
    deviations = [abs(reading - median) for reading in readings]
    bound = _OUTLIER_SIGMAS * _MAD_TO_SIGMA * statistics.median(deviations)
    return Summary(
        median=median,
        spread=(interval.high - interval.low) / (2 * quantile),
        interval=interval,
        outliers=sum(deviation > bound for deviation in deviations),
    )


def _median_interval(readings: Sequence[float]) -> Interval:
    """Return the narrowest symmetric interval between order statistics that holds the median with 95 %.

    As many independent readings lie below the true median as heads fall in n throws of a coin, whatever their
    distribution; so the k-th smallest and the k-th largest miss it with probability 2 P(heads < k). Fewer than six
    readings cannot have 95 %: then it is their whole range, with the coverage that has.
    """
    from scipy.stats import binom

    n = len(readings)
    if n < 2:
        raise ValueError(f"An interval needs at least two readings; got {n}.")
    ordered = sorted(readings)
    rank = max(1, int(binom.ppf((1 - _CONFIDENCE) / 2, n, 0.5)))
    coverage = 1 - 2 * float(binom.cdf(rank - 1, n, 0.5))
    return Interval(low=ordered[rank - 1], high=ordered[n - rank], coverage=coverage)

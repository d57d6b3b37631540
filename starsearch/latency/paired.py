"""The paired protocol: latency as the median ratio to a reference network, timed in turns.

A single network's median drifts by 5–7 % within minutes (frequency, neighbours, caches) and doubles under load.
What slows the candidate slows a reference timed right before or after it as well, so their ratio stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.latency.lock import measuring
from starsearch.latency.statistics import Interval, summarize
from starsearch.measurement import Progress

Timer = Callable[[], float]
"""Runs a network once and returns the milliseconds it took."""

Alone = Callable[[], AbstractContextManager[None]]
"""Makes what is entered around a stretch of timed runs, so that nothing else computes: `measuring`."""

_RUNS_A_STRETCH = 10  # of each network; the machine is held for them, a fraction of a second
_WARM_UP_RUNS = 3  # the first run plans the memory, the second may still enlarge it


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLimits:
    """When enough pairs have been timed.

    Attributes:
        min_pairs: never fewer; at least 2.
        max_pairs: never more, however wide the interval is then.
        half_width: enough when the median ratio's 95 % interval is at most this share of it to either side.

    Raises:
        ValueError: no number of pairs lies within the limits, or the width is negative.
    """

    min_pairs: int = 20
    max_pairs: int = 100
    half_width: float = 0.01

    def __post_init__(self) -> None:
        """Hold the limits to their rule."""
        if not 2 <= self.min_pairs <= self.max_pairs:
            raise ValueError(f"2 ≤ min_pairs ≤ max_pairs; got {self.min_pairs} and {self.max_pairs}.")
        if not self.half_width >= 0:
            raise ValueError(f"half_width is at least 0; got {self.half_width}.")


DEFAULT_LIMITS = PairLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How a candidate's time compares with the reference's.

    Attributes:
        ratio: median of candidate / reference over the pairs.
        spread: standard error of `ratio`, as these pairs show it. Under load ten measurements of a network a
            fourth of the reference's size had a standard deviation of 1.9 % where this said 0.6–0.7 %; of its size or
            twice it 0.6–0.8 % against 0.5–0.6 %.
        interval: of `ratio`, 95 %.
        pairs: how many were timed.
        outliers: pairs further than five robust standard deviations from the median.
    """

    ratio: float
    spread: float
    interval: Interval
    pairs: int
    outliers: int


def measure_paired(
    candidate: Timer,
    reference: Timer,
    *,
    rng: np.random.Generator,
    limits: PairLimits = DEFAULT_LIMITS,
    alone: Alone = measuring,
) -> Generator[Progress, None, Paired]:
    """Time the two in turns, in random order, until the ratio is known well enough; yields after each stretch.

    Args:
        candidate: what is measured.
        reference: what it is measured against.
        rng: of the order within the pairs.
        limits: when to stop.
        alone: entered around each stretch of runs, never while yielding.

    Raises:
        EvaluationError: a run took no time by the clock.
    """
    ratios: list[float] = []
    fraction = 0.0
    while not _is_enough(ratios, limits):
        with alone():
            _warm_up(candidate, reference, is_first=not ratios)
            ratios += [
                _time_pair(candidate, reference, rng)
                for _ in range(min(_RUNS_A_STRETCH, limits.max_pairs - len(ratios)))
            ]
        # Wilder pairs make it last longer than it seemed; a bar that goes back would only confuse.
        fraction = max(fraction, len(ratios) / _expected_pairs(ratios, limits))
        yield Progress(fraction=fraction, stage="latency", values={"pairs": len(ratios)})
    summary = summarize(ratios)
    return Paired(
        ratio=summary.median,
        spread=summary.spread,
        interval=summary.interval,
        pairs=len(ratios),
        outliers=summary.outliers,
    )


def take_readings(timer: Timer, *, runs: int, alone: Alone = measuring) -> list[float]:
    """Milliseconds of `runs` runs of one network, warmed up.

    Raises:
        EvaluationError: a run took no time by the clock.
    """
    readings: list[float] = []
    while len(readings) < runs:
        with alone():
            _warm_up(timer, is_first=not readings)
            readings += [_read(timer) for _ in range(min(_RUNS_A_STRETCH, runs - len(readings)))]
    return readings


def _is_enough(ratios: Sequence[float], limits: PairLimits) -> bool:
    if len(ratios) < limits.min_pairs:
        return False
    return len(ratios) >= limits.max_pairs or summarize(ratios).relative_half_width <= limits.half_width


def _expected_pairs(ratios: Sequence[float], limits: PairLimits) -> int:
    """How many it will take, for the progress bar: an interval narrows with the root of the number."""
    if _is_enough(ratios, limits):
        return len(ratios)
    if len(ratios) < 2 or not limits.half_width:
        return limits.max_pairs
    needed = len(ratios) * (summarize(ratios).relative_half_width / limits.half_width) ** 2
    return math.ceil(min(max(needed, limits.min_pairs, len(ratios) + 1), limits.max_pairs))


def _warm_up(*timers: Timer, is_first: bool) -> None:
    # Others may have computed since the last stretch: one run brings the weights back into the caches.
    for timer in timers:
        for _ in range(_WARM_UP_RUNS if is_first else 1):
            timer()


def _time_pair(candidate: Timer, reference: Timer, rng: np.random.Generator) -> float:
    if rng.random() < 0.5:
        candidate_ms = _read(candidate)
        return candidate_ms / _read(reference)
    reference_ms = _read(reference)
    return _read(candidate) / reference_ms


def _read(timer: Timer) -> float:
    elapsed_ms = timer()
    if not (math.isfinite(elapsed_ms) and elapsed_ms > 0):
        raise EvaluationError(
            f"A timed run must take time; the clock says {elapsed_ms} ms. The network is too small for this "
            "machine's clock: measure a larger one."
        )
    return elapsed_ms

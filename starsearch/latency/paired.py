"""The paired protocol: latency as the median ratio to a reference network, timed in turns.

A single network's median drifts by 5–7 % within minutes (frequency, neighbours, caches) and doubles under load.
What slows the candidate slows a reference timed right before or after it as well, so their ratio stays.
"""

from __future__ import annotations

import ctypes
import math
import os
import statistics
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.latency.lock import measuring
from starsearch.latency.statistics import Interval, summarize
from starsearch.progress import Progress

Timer = Callable[[], float]
"""Runs a network once and returns the milliseconds it took."""

COPIES = 8  # of a network that takes tens of milliseconds to make ready: a stretch each at 40 pairs
_RUNS_A_STRETCH = 10  # of each network; the machine is held for them, about a second
_WARM_UP_RUNS = 3  # the first run plans the memory, the second may still enlarge it


class Copies:
    """A network made ready several times; each stretch of timed runs takes the next copy.

    Where its weights and maps happen to lie in memory makes a session up to 1.5 % faster or slower than another of
    the same network, for as long as it lives: in two processes eight copies of the reference network took 1.006 and
    0.988 times the time of a ninth. Several copies average over that.
    """

    def __init__(self, make: Callable[[], Timer], number: int) -> None:
        self._make, self._number = make, number
        self._made: list[Timer] = [make()]  # at once: a network that cannot run is reported before anything is timed
        self._turn = -1

    def __call__(self) -> float:
        """Run the copy whose turn it is; return its milliseconds."""
        return self._made[max(self._turn, 0) % self._number]()

    @property
    def computes_in_caller(self) -> bool:
        """Whether a run computes in the calling thread and in no other."""
        return _computes_in_caller(self._made[0])

    def move_on(self) -> bool:
        """Make it the next copy's turn; return whether that is its first."""
        self._turn += 1
        if self._turn == len(self._made) < self._number:
            self._made.append(self._make())
        return self._turn < self._number


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLimits:
    """When enough pairs have been timed.

    A pair has an even number of `runs` of each network. On a machine whose cores change speed several times a second
    pairs of 2 runs scatter by 6 to 7.5 %, of 6 runs by 3.4 to 4.6 %.
    """

    min_pairs: int = 10  # never fewer; at least 2
    max_pairs: int = 60  # never more, however wide the interval is then
    half_width: float = 0.01  # enough when the median ratio's 95 % interval is at most this share of it to either side
    runs: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.min_pairs <= self.max_pairs:
            raise ValueError(f"2 ≤ min_pairs ≤ max_pairs; got {self.min_pairs} and {self.max_pairs}.")
        if not self.half_width >= 0:
            raise ValueError(f"half_width is at least 0; got {self.half_width}.")
        if self.runs < 2 or self.runs % 2:
            raise ValueError(f"runs is even, at least 2; got {self.runs}.")


DEFAULT_LIMITS = PairLimits(min_pairs=6, max_pairs=12, runs=12)
"""For one network that somebody asks about; a calibration of many takes less of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTiming:
    """How a candidate's time compares with the reference's."""

    ratio: float  # median of candidate / reference over the pairs
    # standard error of `ratio`, as these pairs show it; how well measurements repeat on a machine whose speed
    # jumps is in studies/benchmarks/latency
    spread: float
    interval: Interval  # 95 % interval of `ratio`
    pairs: int
    outliers: int  # pairs more than five robust standard deviations from the median
    is_closed: bool  # whether the interval became as narrow as was wanted
    reference_ms: tuple[float, ...] = field(repr=False)  # the reference's own time in each pair, in the order of timing


def measure_paired(
    candidate: Timer, reference: Timer, *, rng: np.random.Generator, limits: PairLimits = DEFAULT_LIMITS
) -> Generator[Progress, None, PairedTiming]:
    """Time the two in turns, in random order, until the ratio is known well enough; yield after each stretch."""
    ratios: list[float] = []
    reference_ms: list[float] = []
    fraction = 0.0
    one_thread = _computes_in_caller(candidate) and _computes_in_caller(reference)
    while not _is_enough(ratios, limits):
        new = [_move_on(timer, is_first=not ratios) for timer in (candidate, reference)]
        with measuring(), _staying_on_its_core(only=one_thread):
            _warm_up(candidate, is_new=new[0])
            _warm_up(reference, is_new=new[1])
            for _ in range(min(max(1, _RUNS_A_STRETCH // limits.runs), limits.max_pairs - len(ratios))):
                candidate_run_ms, reference_run_ms = _time_pair(candidate, reference, rng, limits.runs)
                ratios.append(candidate_run_ms / reference_run_ms)
                reference_ms.append(reference_run_ms)
        # Wilder pairs make it last longer than it seemed; a bar that goes back would only confuse.
        fraction = max(fraction, len(ratios) / _expected_pairs(ratios, limits))
        yield Progress(fraction=fraction, stage="latency", values={"pairs": len(ratios)})
    summary = summarize(ratios)
    return PairedTiming(
        ratio=summary.median,
        spread=summary.spread,
        interval=summary.interval,
        pairs=len(ratios),
        outliers=summary.outliers,
        is_closed=summary.relative_half_width <= limits.half_width,
        reference_ms=tuple(reference_ms),
    )


def take_readings(timer: Timer, *, runs: int) -> list[float]:
    """Return the milliseconds of `runs` runs of one network, warmed up."""
    readings: list[float] = []
    while len(readings) < runs:
        is_new = _move_on(timer, is_first=not readings)
        with measuring(), _staying_on_its_core(only=_computes_in_caller(timer)):
            _warm_up(timer, is_new=is_new)
            readings += [_read(timer) for _ in range(min(_RUNS_A_STRETCH, runs - len(readings)))]
    return readings


@contextmanager
def _staying_on_its_core(*, only: bool) -> Iterator[None]:
    """Keep the calling thread on its current core; threads it has started are free to move.

    Beside a process that keeps another core busy the scheduler moves both about, and each move costs the caches:
    40 pairs of StarNet-S4 then repeat to 0.9 to 1.0 %, and to 0.4 % where the thread stays
    (studies/benchmarks/repeatability.py).

    Unless everything timed computes in the calling thread (`only`) nothing is kept on a core: a thread pool started
    inside would have to share that core for good.
    """
    core = _current_core() if only else None
    allowed = os.sched_getaffinity(0) if core is not None else set()
    if core is not None:
        with suppress(OSError):  # a container may forbid it; nothing is wrong without
            os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        if core is not None:
            with suppress(OSError):  # the machine's cores may have changed meanwhile
                os.sched_setaffinity(0, allowed)


def _current_core() -> int | None:
    """Return the core this thread runs on; None where the system does not say, or cannot keep a thread there."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return None
    try:
        core = int(ctypes.CDLL(None).sched_getcpu())
    except (OSError, AttributeError):
        return None
    return core if core in os.sched_getaffinity(0) else None


def _computes_in_caller(timer: Timer) -> bool:
    """Whether a run computes in the calling thread alone; a timer that does not say so does not."""
    return bool(getattr(timer, "computes_in_caller", False))


def _is_enough(ratios: Sequence[float], limits: PairLimits) -> bool:
    if len(ratios) < limits.min_pairs:
        return False
    return len(ratios) >= limits.max_pairs or summarize(ratios).relative_half_width <= limits.half_width


def _expected_pairs(ratios: Sequence[float], limits: PairLimits) -> int:
    """Estimate how many pairs it will take: an interval narrows with the root of the number."""
    if _is_enough(ratios, limits):
        return len(ratios)
    if len(ratios) < 2 or not limits.half_width:
        return limits.max_pairs
    needed = len(ratios) * (summarize(ratios).relative_half_width / limits.half_width) ** 2
    return math.ceil(min(max(needed, limits.min_pairs, len(ratios) + 1), limits.max_pairs))


def _move_on(timer: Timer, *, is_first: bool) -> bool:
    """Let the next copy have its turn; return whether what runs now may never have run."""
    return (isinstance(timer, Copies) and timer.move_on()) or is_first


def _warm_up(timer: Timer, *, is_new: bool) -> None:
    # Others may have computed since the last stretch: one run brings the weights back into the caches.
    for _ in range(_WARM_UP_RUNS if is_new else 1):
        timer()


def _time_pair(candidate: Timer, reference: Timer, rng: np.random.Generator, runs: int) -> tuple[float, float]:
    """Return the milliseconds of the candidate and of the reference: the medians of `runs` runs of each.

    They take turns in the order ABBA, so that both see the same drift, or BAAB, at random. A small network is not run
    several times in a row: at 1 ms warm runs repeat worse than those right after the reference (4 to 7 % against 2 to
    3 %).
    """
    candidate_ms: list[float] = []
    reference_ms: list[float] = []
    for _ in range(runs // 2):
        outer, inner = (candidate, candidate_ms), (reference, reference_ms)
        if rng.random() < 0.5:
            outer, inner = inner, outer
        for timer, readings in (outer, inner, inner, outer):
            readings.append(math.log(_read(timer)))  # what counts is the ratio
    return math.exp(statistics.median(candidate_ms)), math.exp(statistics.median(reference_ms))


def _read(timer: Timer) -> float:
    elapsed_ms = timer()
    if not (math.isfinite(elapsed_ms) and elapsed_ms > 0):
        raise EvaluationError(
            f"A timed run must take time; the clock says {elapsed_ms} ms. The network is too small for this "
            "machine's clock: measure a larger one."
        )
    return elapsed_ms

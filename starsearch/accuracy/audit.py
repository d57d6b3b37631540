"""`audit`: how well a signal, a lower fidelity or a model ranks networks, and what it sees of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from starsearch.families.family import Architecture
from starsearch.families.fields import rules_of
from starsearch.pareto import BoolArray, FloatArray

BAND = 1.15
"""Two networks are of equal latency where the slower takes at most so many times as long."""

LEAST = 3  # networks that a coefficient is made of
_RESAMPLES = 1000

FLIPS: Mapping[str, tuple[object, object]] = {
    "ops": ("star", "sum"),
    "activation": ("one", "none"),
    "kernel_size": (7, 3),
}
"""Two values of a field, for otherwise equal networks; of the first two the former is better (tables 7 and 9)."""

_SURE = 0.95  # of the resamples, from which on a signal beats parameter count


@dataclass(frozen=True, slots=True, kw_only=True)
class Tau:
    """A rank correlation: Kendall's τ-b, or over some pairs only (concordant − discordant) / all of these.

    Attributes:
        value: from −1 to 1; NaN where there are too few candidates, or all are equal.
        low, high: 95 % interval, by the bootstrap over candidates.
        pairs: how many pairs of candidates were compared.
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def is_known(self) -> bool:
        """Whether there were enough candidates."""
        return not math.isnan(self.value)

    def __str__(self) -> str:
        """The coefficient with its interval in words."""
        if not self.is_known:
            return f"unknown ({self.pairs} pair{'s' if self.pairs != 1 else ''})"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})".replace("-", "−")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How well values rank networks by their true accuracy, with parameter count beside.

    Attributes:
        candidates: networks that have a value; NaN is none.
        in_bands: τ among pairs of equal cost (`BAND`): where a front is decided.
        best_tenth: among the best tenth in truth: `best_count`, three at least.
        num_params: τ of the parameter count in place of the values, of the same networks.
        better_than_params: share of the resamples in which the values rank better than that.
    """

    candidates: int
    overall: Tau
    in_bands: Tau
    best_tenth: Tau
    best_count: int
    num_params: Tau
    better_than_params: float

    @property
    def beats_params(self) -> bool:
        """Whether the values rank better than parameter count in 95 % of the resamples."""
        return self.better_than_params >= _SURE


def audit(values: FloatArray, truth: FloatArray, *, num_params: FloatArray, cost: FloatArray, seed: int = 0) -> Audit:
    """Return how well `values` (n,) rank networks as `truth` (n,) does; higher is better in both.

    Args:
        cost: latency or multiply-adds, for pairs of equal cost.
        seed: of the bootstrap.
    """
    known = np.isfinite(values)
    values, truth, num_params, cost = (one[known] for one in (values, truth, num_params, np.log(cost)))
    rng = np.random.default_rng(seed)
    near = np.abs(cost[:, None] - cost[None, :]) <= math.log(BAND)
    best = np.argsort(-truth, kind="stable")[: max(LEAST, math.ceil(len(truth) / 10))]
    return Audit(
        candidates=len(values),
        overall=kendall(values, truth, rng=rng),
        in_bands=kendall(values, truth, rng=rng, pairs=near),
        best_tenth=kendall(values[best], truth[best], rng=rng),
        best_count=len(best),
        num_params=kendall(num_params, truth, rng=rng),
        better_than_params=_share_better(values, num_params, truth, seed),
    )


def flipped(network: Any) -> dict[str, tuple[Architecture, Architecture]]:
    """Return for each field of `FLIPS` that its family has the network with the one and with the other value."""

    def having(field: str, value: object) -> Architecture:
        changed: Architecture = replace(network, **{field: (value,) * network.num_stages}).canonical()
        return changed

    kind: type[Architecture] = type(network)
    rules = rules_of(kind)
    return {field: (having(field, a), having(field, b)) for field, (a, b) in FLIPS.items() if field in rules}


def sight(first: Sequence[float], second: Sequence[float]) -> float:
    """Return from −1 to 1 how steadily the first of two values is the higher: 0 where a flip is not seen, or NaN."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    known = differences[np.isfinite(differences)]
    return float(np.sign(known).mean()) if len(known) else math.nan


def kendall(x: FloatArray, y: FloatArray, *, rng: np.random.Generator, pairs: BoolArray | None = None) -> Tau:
    """Return Kendall's τ-b of two rankings (n,) of the same things, with its bootstrap interval.

    Only `pairs` count, (n, n) and symmetric: a choice that SciPy's `kendalltau` does not offer.
    """
    chosen = np.ones((len(x), len(x)), dtype=bool) if pairs is None else pairs
    count = int(np.triu(chosen, 1).sum())
    nothing = Tau(value=math.nan, low=math.nan, high=math.nan, pairs=count)
    if len(x) < LEAST or count < LEAST or np.isnan(x).any() or np.isnan(y).any():
        return nothing
    value = _tau(x, y, chosen)
    if math.isnan(value):
        return nothing
    low, high = np.nanquantile(_resampled(x, y, chosen, rng), [0.025, 0.975])
    if low == high:  # all in one order: so are all resamples, however few the candidates
        low, high = _normal_interval(value, len(x), count)
    return Tau(value=value, low=float(low), high=float(high), pairs=count)


def _resampled(x: FloatArray, y: FloatArray, chosen: BoolArray, rng: np.random.Generator) -> FloatArray:
    rows = rng.integers(0, len(x), (_RESAMPLES, len(x)))
    return np.array([_tau(x[one], y[one], chosen[np.ix_(one, one)]) for one in rows])


def _tau(x: FloatArray, y: FloatArray, chosen: BoolArray) -> float:
    """Return τ-b over the chosen pairs; a thing and its copy in a resample do not count, since both signs are 0."""
    signs_x, signs_y = (np.sign(one[:, None] - one[None, :]) * chosen for one in (x, y))
    norm = math.sqrt(float((signs_x**2).sum()) * float((signs_y**2).sum()))
    return float((signs_x * signs_y).sum()) / norm if norm else math.nan


def _normal_interval(value: float, candidates: int, pairs: int) -> tuple[float, float]:
    """Return 95 % by Fisher's transformation (Fieller, Hartley, Pearson, "Tests for rank correlation", 1957).

    Three or four candidates in one order say nothing: from −1 to 1.
    """
    if candidates <= 4:
        return -1.0, 1.0
    half = 1.96 * math.sqrt(0.437 / (candidates - 4))
    centre = math.atanh(math.copysign(min(abs(value), 1 - 1 / pairs), value))
    ends = math.tanh(centre - half), math.tanh(centre + half)
    return (ends[0], max(value, ends[1])) if value > 0 else (min(value, ends[0]), ends[1])


def _share_better(values: FloatArray, params: FloatArray, truth: FloatArray, seed: int) -> float:
    """Return in which share of the resamples, the same of both, `values` rank better than `params` do."""
    every = np.ones((len(truth), len(truth)), dtype=bool)
    if len(truth) < LEAST:
        return math.nan
    ours, theirs = (_resampled(x, truth, every, np.random.default_rng(seed)) for x in (values, params))
    known = ~np.isnan(ours - theirs)
    return float((ours > theirs)[known].mean()) if known.any() else math.nan

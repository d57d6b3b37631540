"""Dominance, hypervolume and promotion, by moocore. Every objective is minimised (`starsearch.objective.losses`).

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning") promotes the
best 1/η of a rung by one value. Here "best" is the non-dominated rank, then the hypervolume that would be lost without
the candidate, as in SMS-EMOA (Beume et al. 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
# How far the reference lies beyond the worst of the scaled objectives, so that a rank's ends contribute as well.
_BEYOND = 0.1


def non_dominated(losses: FloatArray) -> BoolArray:
    """Return (n,) whether each row of (n, m) is dominated by no other row.

    A row dominates another if it is nowhere greater and somewhere less. Equal rows do not dominate each
    other: all copies of a non-dominated row are True. A row with a NaN is False and dominates nothing.
    """
    found: BoolArray = np.logical_not(np.isnan(losses).any(axis=1))
    found[found] = _moocore().is_nondominated(losses[found], keep_weakly=True)
    return found


def non_dominated_probability(
    losses: FloatArray, errors: FloatArray, *, rng: np.random.Generator, draws: int = 400
) -> FloatArray:
    """Return (n,) how probably each row of (n, m) is non-dominated, by normal draws with `errors` as deviations.

    Errors are drawn independently; NaN and 0 stand for a value that is certain. A row with a NaN in `losses` has
    probability 0.
    """
    found = np.zeros(len(losses))
    for _ in range(draws):
        found += non_dominated(losses + rng.standard_normal(losses.shape) * np.nan_to_num(errors))
    return found / draws


def hypervolume(losses: FloatArray, reference: FloatArray) -> float:
    """Return the volume dominated by the rows of (n, m) and bounded by `reference` (m,); 0 where there are no rows.

    Raises:
        ValueError: a row lies beyond `reference`, or holds a NaN.
    """
    inside = (losses <= reference).all(axis=1)
    if not inside.all():
        raise ValueError(f"Every row must be at or below the reference {reference}; got {losses[~inside][0]}.")
    return float(_moocore().hypervolume(losses, ref=reference)) if len(losses) else 0.0


def next_promotion(losses: FloatArray, *, promoted: BoolArray, allowed: BoolArray, eta: int) -> int | None:
    """Return the row that is promoted from its rung now; None where none is.

    At most one row in `eta` of all that have reached the rung is promoted, and none before an allowed row that
    dominates it. Rows of one rank are promoted in the order of the hypervolume that would be lost without them.

    Args:
        losses: (n, m), what the rung's candidates have reached; no NaN.
        promoted: (n,), which rows have been promoted already.
        allowed: (n,), which rows may be at all; the others still count among those that reached the rung.
        eta: at least 2.

    Raises:
        ValueError: `eta` is less than 2.
    """
    if eta < 2:
        raise ValueError(f"One in at least 2 is promoted; got eta = {eta}.")
    waiting = allowed & ~promoted
    if promoted.sum() >= len(losses) // eta or not waiting.any():
        return None
    ranks = non_dominated_ranks(losses)
    members = np.flatnonzero(ranks == ranks[waiting].min())
    contributions = np.where(waiting[members], _contributions(_scale(losses)[members]), -np.inf)
    return int(members[contributions.argmax()])


def promotion_order(losses: FloatArray) -> IntArray:
    """Return (n,), the rows of (n, m) by non-dominated rank, then by the hypervolume that each would cost; no NaN."""
    ranks, scaled = non_dominated_ranks(losses), _scale(losses)
    contributions = np.zeros(len(losses))
    for rank in np.unique(ranks):
        contributions[ranks == rank] = _contributions(scaled[ranks == rank])
    return np.lexsort((-contributions, ranks)).astype(np.int64)


def non_dominated_ranks(losses: FloatArray) -> IntArray:
    """Return (n,): 0 for rows that no other dominates, 1 for those that only rows of rank 0 dominate, …; no NaN."""
    return np.asarray(_moocore().pareto_rank(losses), dtype=np.int64)


def _scale(losses: FloatArray) -> FloatArray:
    """To 0..1 in each objective, so that no unit weighs more than another."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled: FloatArray = (losses - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _contributions(losses: FloatArray) -> FloatArray:
    """The volume that would be lost without each row of a front; of one objective they are all copies."""
    if losses.shape[1] == 1:
        return np.zeros(len(losses))
    found: FloatArray = _moocore().hv_contributions(losses, ref=np.full(losses.shape[1], 1.0 + _BEYOND))
    return found


def _moocore() -> Any:
    """The library, which takes too long to import for a command's help."""
    import moocore

    return moocore

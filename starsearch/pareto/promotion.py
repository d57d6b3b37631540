"""Which candidate of a rung goes on: successive halving over several objectives, as a pure function.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning") promotes the
best 1/η of a rung by one value. Here "best" is the non-dominated rank, then the hypervolume that would be lost without
the candidate, as in SMS-EMOA (Beume et al. 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsearch.pareto.dominance import BoolArray, FloatArray

IntArray = NDArray[np.int64]
# Of the scaled objectives, beyond the worst: also a rank's ends shall contribute.
_BEYOND = 0.1


def next_promotion(losses: FloatArray, *, promoted: BoolArray, allowed: BoolArray, eta: int) -> int | None:
    """The row that may go on from its rung now; None where none may.

    At most one row in η of all that have reached the rung goes on, and none goes on while a row that dominates it, and
    is allowed to, has not. Rows of one rank go on in the order of the hypervolume that would be lost without them.

    Args:
        losses: (n, m), what the rung's candidates have reached, every objective minimised; no NaN.
        promoted: (n,), who has gone on already.
        allowed: (n,), who may at all; the others count among those who have reached the rung.
        eta: one in so many goes on; at least 2.

    Raises:
        ValueError: `eta` is less than 2.
    """
    if eta < 2:
        raise ValueError(f"One in at least 2 goes on; got eta = {eta}.")
    waiting = allowed & ~promoted
    if promoted.sum() >= len(losses) // eta or not waiting.any():
        return None
    ranks = non_dominated_ranks(losses)
    members = np.flatnonzero(ranks == ranks[waiting].min())
    contributions = np.where(waiting[members], _contributions(_scale(losses)[members]), -np.inf)
    return int(members[contributions.argmax()])


def promotion_order(losses: FloatArray) -> IntArray:
    """(n,): the rows in the order in which they go on: by non-dominated rank, then by the hypervolume each would cost.

    Args:
        losses: (n, m), every objective minimised; no NaN.
    """
    ranks = non_dominated_ranks(losses)
    contributions = np.zeros(len(losses))
    scaled = _scale(losses)
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        contributions[members] = _contributions(scaled[members])
    return np.lexsort((-contributions, ranks)).astype(np.int64)


def non_dominated_ranks(losses: FloatArray) -> IntArray:
    """(n,): 0 for the rows no other dominates, 1 for those only rows of rank 0 dominate, and so on.

    Args:
        losses: (n, m), every objective minimised; no NaN.
    """
    import moocore

    library: Any = moocore
    return np.asarray(library.pareto_rank(losses), dtype=np.int64)


def _scale(losses: FloatArray) -> FloatArray:
    """To 0..1 in each objective, so that no unit weighs more than another."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled: FloatArray = (losses - low) / np.where(high > low, high - low, 1.0)
    return scaled


def _contributions(losses: FloatArray) -> FloatArray:
    """The volume that would be lost without each row of a front; of one objective they are all copies."""
    if losses.shape[1] == 1:
        return np.zeros(len(losses))
    import moocore

    library: Any = moocore
    found: FloatArray = library.hv_contributions(losses, ref=np.full(losses.shape[1], 1.0 + _BEYOND))
    return found

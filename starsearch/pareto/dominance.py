"""Which points no other point beats, and how much volume they beat together; computed by moocore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def non_dominated(losses: FloatArray) -> BoolArray:
    """Whether each row is dominated by no other row.

    A row dominates another if it is nowhere greater and somewhere less. Equal rows do not dominate each
    other: all copies of a non-dominated row are True. A row with a NaN is False and dominates nothing.

    Args:
        losses: (n, m), every objective minimised.

    Returns:
        (n,).
    """
    import moocore

    found: BoolArray = np.logical_not(np.isnan(losses).any(axis=1))
    found[found] = moocore.is_nondominated(losses[found], keep_weakly=True)
    return found


def hypervolume(losses: FloatArray, reference: FloatArray) -> float:
    """Volume dominated by `losses` and bounded by `reference`; 0 where there are no rows.

    Args:
        losses: (n, m), every objective minimised.
        reference: (m,), no better than any row of `losses` in any objective.

    Raises:
        ValueError: a row lies beyond `reference`, or holds a NaN.
    """
    import moocore

    if not (losses <= reference).all():
        row = losses[~(losses <= reference).all(axis=1)][0]
        raise ValueError(f"Every row must be at or below the reference {reference}; got {row}.")
    return float(moocore.hypervolume(losses, ref=reference)) if len(losses) else 0.0

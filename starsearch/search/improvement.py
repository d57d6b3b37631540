"""What a candidate is expected to add to a front, and for how much compute."""

from __future__ import annotations

import math
import warnings

import numpy as np

from starsearch.pareto import BoolArray, FloatArray

_INFINITY = 1e6  # beyond every logarithm of a loss


def gain_for_compute(
    gains: FloatArray, weights: FloatArray, now: FloatArray, later: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Return (n,), the gain for a unit of compute of trainings that go on only after the values where that pays best.

    Also return (n,), whether they go on after each value, so that nothing is lost if they do not stop.

    Args:
        gains: (s, n), at the end after each of the values that may be seen on the way.
        weights: (s,), how probable each value is.
        now, later: (n,), the compute until then, and from there to the end.
    """
    order = np.argsort(-gains, axis=0, kind="stable")
    goes_on = np.cumsum(weights[order], axis=0)
    rates = np.cumsum(np.take_along_axis(weights[:, None] * gains, order, axis=0), axis=0) / (now + later * goes_on)
    return rates.max(axis=0), np.argmax(rates, axis=0) == len(rates) - 1


def expected_improvement(mean: FloatArray, std: FloatArray, front: FloatArray, reference: FloatArray) -> FloatArray:
    """Return (n,), by how much each candidate is expected to raise a front's hypervolume.

    Exact for independent normal losses: a sum over the boxes of the region that nothing dominates (Yang et al. 2019,
    "Efficient Computation of Expected Hypervolume Improvement Using Box Decomposition Algorithms").

    Args:
        mean, std: (n, m), of the candidates' losses; a standard deviation of 0 is of a known loss.
        front: (k, m), the losses so far.
        reference: (m,), beyond which nothing counts.
    """
    import torch
    from scipy.special import ndtr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit.script, which a dependency of BoTorch still uses
        from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning

    if front.shape[1] == 1:
        lower, upper = -np.minimum(front.min(axis=0), reference)[None], np.array([[np.inf]])
    else:  # BoTorch maximises
        found = FastNondominatedPartitioning(torch.from_numpy(-reference), torch.from_numpy(-front))
        lower, upper = found.get_hypercell_bounds().numpy()
    std = np.maximum(std, 1e-9)[:, None]

    def expected_above(level: FloatArray) -> FloatArray:
        """Return (n, c, m): by how much each loss, negated, is expected to exceed a level."""
        units = (-mean[:, None] - level) / std
        found: FloatArray = std * (np.exp(-(units**2) / 2) / math.sqrt(2 * math.pi) + units * ndtr(units))
        return found

    lengths = expected_above(lower) - expected_above(np.minimum(upper, _INFINITY))
    total: FloatArray = lengths.prod(axis=2).sum(axis=1)
    return total

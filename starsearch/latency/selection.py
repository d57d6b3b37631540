"""Which networks to measure: those that tell a device's coefficients apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from starsearch.families.family import Architecture, count_macs
from starsearch.latency.fitting import term_matrix
from starsearch.latency.profile import FloatVector
from starsearch.latency.terms import describe_network

_RIDGE = 1e-2


def choose_informative(
    candidates: Sequence[Architecture], count: int, *, resolution: int, vector_width: int
) -> list[Architecture]:
    """`count` of the candidates, in the order of choice, so that any beginning of the list is a good choice, too.

    D-optimal design (Fedorov 1972), greedily: the next network is the one whose terms the networks so far say
    least about. Errors are relative, so terms count by the network's size.

    Args:
        candidates: to choose from.
        count: at most their number.
        resolution: they are measured at.
        vector_width: of the device, as far as it is known.
    """
    described = [describe_network(a, resolution=resolution, vector_width=vector_width).total for a in candidates]
    names = sorted({name for terms in described for name in terms})
    sizes = np.array([count_macs(a, resolution=resolution) for a in candidates])
    rows = term_matrix(described, names) / sizes[:, None]
    scales = np.sqrt(np.mean(rows**2, axis=0))
    rows = rows[:, scales > 0] / scales[scales > 0]
    return [candidates[index] for index in _choose_rows(rows, count)]


def _choose_rows(rows: FloatVector, count: int) -> list[int]:
    inverse = np.eye(rows.shape[1]) / _RIDGE
    gains = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        gains[chosen] = -np.inf
        index = int(np.argmax(gains))
        chosen.append(index)
        direction = inverse @ rows[index]  # Sherman and Morrison's update of the inverse
        scale = 1 + float(rows[index] @ direction)
        inverse -= np.outer(direction, direction) / scale
        gains -= (rows @ direction) ** 2 / scale
    return chosen

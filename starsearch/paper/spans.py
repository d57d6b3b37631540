"""Sections 3.1 to 3.3: how many dimensions a star spans implicitly, counted."""

from __future__ import annotations

from collections.abc import Generator
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from starsearch.paper.finding import Finding, Setting
from starsearch.progress import Progress

MOST_DIMENSIONS = 8
_LAYERS = 2
FloatArray = NDArray[np.float64]


def implicit_rank(d: int, *, layers: int = 1, case: str = "both") -> int:
    """Return the number of dimensions that the functions of random star layers of d inputs span.

    Each layer appends a constant 1 to its input X, as section 3.1 has it, and computes W1ᵀX ∗ W2ᵀX ("both") with
    random weights, one function a channel; "one" is W1ᵀX ∗ X and "self" X ∗ X (section 3.3). The functions are
    evaluated at more random points than they could span dimensions; the rank of that matrix is counted.
    """
    rng = np.random.default_rng(d)
    most = comb(d + 2**layers, 2**layers)
    points = np.append(rng.uniform(-1, 1, (most + 20, d)), np.ones((most + 20, 1)), axis=1)
    if case != "both":
        branch = points @ rng.standard_normal((d + 1, d + 1)) if case == "one" else points
        return _rank((branch[:, :1] if case == "one" else branch) * points)
    # Independent networks: a channel of the last layer mixes what the layer before it spans.
    found = points
    for _ in range(layers):
        width = comb(d + 2**layers, 2**layers) + 5
        found = _scaled(found)
        found = (found @ rng.standard_normal((found.shape[1], width))) * (
            found @ rng.standard_normal((found.shape[1], width))
        )
    return _rank(found)


def _scaled(values: FloatArray) -> FloatArray:
    """Return columns that are orthogonal and span the same, so that powers stay within float64's reach."""
    left, sizes, _ = np.linalg.svd(values, full_matrices=False)
    kept: FloatArray = left[:, sizes > sizes[0] * 1e-10] * np.sqrt(len(values))
    return kept


def _rank(values: FloatArray) -> int:
    sizes = np.linalg.svd(values / np.linalg.norm(values, axis=0), compute_uv=False)
    return int((sizes > sizes[0] * 1e-10).sum())


def find_spans(_setting: Setting) -> Generator[Progress, None, Finding]:
    """Count for d up to 8, one layer and two, and the special cases."""
    rows: list[tuple[str, int, float, int]] = []
    for d in range(1, MOST_DIMENSIONS + 1):
        yield Progress(fraction=d / (MOST_DIMENSIONS + 1), stage="counting dimensions")
        rows.append(("one star, section 3.1", d, (d + 2) * (d + 1) // 2, implicit_rank(d)))
        if d <= MOST_DIMENSIONS // 2:  # beyond, polynomials of degree 4 outgrow float64's accuracy
            rows.append(("two stars, section 3.2", d, round((d / 2**0.5) ** 4, 1), implicit_rank(d, layers=_LAYERS)))
        rows.append(("W1ᵀX ∗ X a channel, section 3.3", d, 2 * d, implicit_rank(d, case="one")))
        rows.append(("X ∗ X, section 3.3", d, d, implicit_rank(d, case="self") - 1))  # without 1 ∗ 1
    table = pd.DataFrame(rows, columns=["function", "d", "published", "here"])
    table = table.sort_values("function", kind="stable", ignore_index=True)
    first = table[table["function"].str.startswith("one star")]
    held = bool((first["published"] == first["here"]).all())
    return Finding(
        rows=table,
        verdict="held" if held else "did not hold",
        sentence=(
            f"One star layer of d inputs spans {'exactly ' if held else 'not '}(d+2)(d+1)/2 dimensions for d up to "
            f"{MOST_DIMENSIONS}; two span the polynomials of degree 4, C(d+4, 4), fewer than the paper's (d/√2)⁴ for "
            "large d: products repeat. With one branch untransformed a channel spans d + 1."
        ),
    )

"""Table 5: parameters and multiply-adds of the published StarNets, counted."""

from __future__ import annotations

from collections.abc import Generator
from math import prod

import pandas as pd

from starsearch.families.family import Architecture, count_macs, count_params, lower, presets
from starsearch.paper.finding import Finding, Setting
from starsearch.progress import Progress

_PUBLISHED = {"starnet_s1": (2.9, 425), "starnet_s2": (3.7, 547), "starnet_s3": (5.8, 757), "starnet_s4": (7.5, 1075)}

_OFF = "S4's FLOPs: the paper prints 1075 M, where counting by its own rule gives 1054 M"


def find_counts(_setting: Setting) -> Generator[Progress, None, Finding]:
    """Count parameters, and multiply-adds as the paper does, by fvcore's rule."""
    rows = []
    for name, (params_m, mflops) in _PUBLISHED.items():
        yield Progress(fraction=0.0, stage=f"counting {name}")
        architecture = presets()[name]
        macs = count_as_fvcore(architecture) / 1e6
        rows += [
            (name, "parameters, M", params_m, round(count_params(architecture) / 1e6, 3)),
            (name, "MFLOPs, batch norms included", mflops, round(macs, 1)),
        ]
    table = pd.DataFrame(rows, columns=["network", "count", "published", "here"])
    off = table[(table["published"] - table["here"]).abs() > 0.006 * table["published"]]
    return Finding(
        rows=table,
        verdict="did not hold" if len(off) else "held",
        sentence="All counts are the published ones" + (f" but {_OFF}." if len(off) else "."),
    )


def count_as_fvcore(architecture: Architecture) -> int:
    """Return multiply-adds at 224 px as fvcore counts them: two a value for a batch norm, one a value pooled."""
    layers = lower(architecture)
    norms = sum(2 * prod(one.out_shape) for one in layers if one.batch_norm or one.op == "norm")
    return count_macs(architecture) + norms + sum(prod(one.in_shape) for one in layers if one.op == "pool")

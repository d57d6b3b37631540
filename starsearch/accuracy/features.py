"""`encode`: a network as the numbers that its accuracy is estimated from."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from starsearch.families.family import FAMILIES, Architecture, count_macs, count_params
from starsearch.families.layers import ACTIVATION_FUNCTIONS, ACTIVATION_PLACEMENTS, BRANCH_OPS

_STAGES = 4
_SIZES = ("log_macs", "log_params", "log_depth")
_SHAPE = (
    *(f"{name}.{stage}" for stage in range(_STAGES) for name in ("kernel_size", "mlp_ratio", "depth_share")),
    *(f"ops={name}" for name in BRANCH_OPS[2:]),
    *(f"branches={name}" for name in ("one", "self")),
)
_CHOICES = (
    *(f"star.{stage}" for stage in range(_STAGES)),
    *(f"activation={name}" for name in ACTIVATION_PLACEMENTS),
    *ACTIVATION_FUNCTIONS,
    *list(FAMILIES)[1:],
)
FEATURES = (*_SIZES, *_CHOICES, *_SHAPE)
"""The names of what `encode` returns, in its order."""
LINEAR = tuple(range(len(_SIZES) + len(_CHOICES)))
"""The features in which the logarithm of the error is nearly linear."""
SHAPE = tuple(range(len(LINEAR), len(FEATURES)))
"""Kernel sizes, ratios, where the blocks are and rarer ones, of which next to nothing is published: uncertainty of
their own."""
_DEPTH_SHARES = (0.15, 0.15, 0.5, 0.2)  # of the published networks


@cache
def encode(architecture: Architecture) -> tuple[float, ...]:
    """Return the network's `FEATURES`, each in units of its usual range.

    Multiply-adds (at 224 px), parameters (1000 classes) and depth by their logarithms; for each quarter of the stages
    star or not, kernel size, ratio and its share of the blocks; the share of blocks with each activation placement and
    each rarer way to join branches; the activation function; the family. A field that a family does not have counts
    as StarNet-S1's.
    """
    network: Any = architecture
    depths = architecture.depths
    blocks = max(sum(depths), 1)
    stages = [quarter * len(depths) // _STAGES for quarter in range(_STAGES)]
    found = {
        "log_macs": math.log(count_macs(architecture) / 4e8) / 0.6,
        "log_params": math.log(count_params(architecture) / 3e6) / 0.6,
        "log_depth": math.log(blocks / 15) / 0.4,
        getattr(network, "act_type", "relu6"): 1.0,
        architecture.family: 2.0,
    }
    for quarter, stage in enumerate(stages):
        found[f"star.{quarter}"] = 1.0 if _value(network, "ops", stage, "star") == "star" else -1.0
        found[f"kernel_size.{quarter}"] = math.log(_value(network, "kernel_size", stage, 7) / 7) / 0.35
        found[f"mlp_ratio.{quarter}"] = math.log(_value(network, "mlp_ratio", stage, 4) / 4) / 0.35
        share = depths[stage] / blocks * len(depths) / _STAGES
        found[f"depth_share.{quarter}"] = math.log(max(share, 0.01) / _DEPTH_SHARES[quarter]) / 1.4
    for stage, depth in enumerate(depths):
        for field, default in (("activation", "one"), ("ops", "star"), ("branches", "both")):
            name = f"{field}={_value(network, field, stage, default)}"
            found[name] = found.get(name, 0.0) + 2.0 * depth / blocks
    return tuple(found.get(name, 0.0) for name in FEATURES)


def _value(network: Any, field: str, stage: int, default: Any) -> Any:
    """A stage's value of a field, where the family has it."""
    values = getattr(network, field, default)
    return values[stage] if isinstance(values, tuple) else values

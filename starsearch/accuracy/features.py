"""`encode`: a network as the numbers that accuracy is predicted from."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.layers import ACTIVATION_FUNCTIONS

_STAGES = 4
_PLACEMENTS = ("none", "one", "both", "post")


@cache
def encode(architecture: Architecture) -> tuple[float, ...]:
    """Return the logarithms of size and depth, then the choices of a block: each in units of its usual range.

    Multiply-adds (at 224 px) and parameters (1000 classes) carry the scaling law. Of each quarter of the stages follow:
    star or sum, kernel size, ratio; of all blocks the share of each activation placement; the activation function.
    """
    network: Any = architecture
    depths = network.depths
    stages = [index * len(depths) // _STAGES for index in range(_STAGES)]
    found = [
        math.log(count_macs(architecture) / 4e8) / 0.6,
        math.log(count_params(architecture) / 3e6) / 0.6,
        math.log(sum(depths) / 15 or 1 / 15) / 0.4,
    ]
    for stage in stages:
        found += [
            2.0 * (_of(network, "ops", stage, "star") == "star") - 1,
            math.log(_of(network, "kernel_size", stage, 7) / 7) / 0.35,
            math.log(_of(network, "mlp_ratio", stage, 4) / 4) / 0.35,
        ]
    blocks = max(sum(depths), 1)
    for placement in _PLACEMENTS:
        count = sum(depth for at, depth in enumerate(depths) if _of(network, "activation", at, "one") == placement)
        found.append(2.0 * count / blocks)
    act_type = getattr(network, "act_type", "relu6")
    return (*found, *(2.0 * (act_type == name) for name in ACTIVATION_FUNCTIONS))


def _of(network: Any, field: str, stage: int, default: Any) -> Any:
    """A stage's value of a field, where the family has it."""
    values = getattr(network, field, default)
    return values[stage] if isinstance(values, tuple) else values

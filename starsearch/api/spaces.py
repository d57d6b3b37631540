"""Looking at a space without training anything."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from starsearch.families.family import count_macs, count_params
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.resources import find_file
from starsearch.space import SearchSpace
from starsearch.study.study_file import load_study

_DRAWS = 2_000


def describe_space(text: str) -> dict[str, Any]:
    """Dimensions, the largest possible count, constraints and anchors of a space, as plain values.

    `allowed_percent` is the share of random params that the constraints allow, from 2,000 draws.
    """
    space = load_study(text).space
    return {
        "name": space.name,
        "family": space.family,
        "resolution": space.resolution,
        "dimensions": {dimension.field: dimension.describe() for dimension in space.dimensions},
        "recipe": {name: words for name, words in space.describe().items() if name.startswith("recipe.")},
        "constraints": space.describe_constraints(),
        "num_architectures": space.num_architectures,
        "allowed_percent": _allowed_percent(space),
        "anchors": list(space.anchors),
        "published": space.anchors_inside(),
    }


def sample_space(text: str, *, count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` different random architectures that the constraints allow, with their costs."""
    space = load_study(text).space
    return [
        {
            "architecture": format_architecture(architecture),
            "hash": architecture_hash(architecture),
            "macs": count_macs(architecture, resolution=space.resolution),
            "num_params": count_params(architecture),
        }
        for architecture in space.sample_architectures(count, seed)
    ]


def check_file(text: str) -> str:
    """Return one line that says what a valid file is."""
    spec = load_study(text)
    return (
        f"{find_file(text, 'spaces')} is valid: at most {spec.space.num_architectures:,} architectures, "
        f"{len(spec.space.anchors)} anchor(s), {spec.trials} trials of fidelity {spec.fidelity.name!r}."
    )


def _allowed_percent(space: SearchSpace) -> float:
    if not space.constraints:
        return 100.0
    rng, free = random.Random(0), replace(space, constraints=())  # noqa: S311 — sampling, not secrets
    drawn = (space.broken_constraint(free.decode_architecture(free.sample(rng))) is None for _ in range(_DRAWS))
    return 100.0 * sum(drawn) / _DRAWS

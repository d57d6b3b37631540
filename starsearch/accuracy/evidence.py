"""`Observation`: one network's accuracy on one task, and the published ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture

IMAGENET = "imagenet"
"""The task of the published results: top-1 on ImageNet-1k at 224 px by the paper's recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one network has reached on one task.

    Attributes:
        architecture: the network, in canonical form.
        task: data and fidelity ("imagenet", "cifar10/proxy"), or "signal/NAME" for what was read off untrained.
        value: top-1 in percent; a signal has its own unit.
        standard_error: in the unit of `value`.
        source: where it is from: "table 6", a study's name.
    """

    architecture: Architecture
    task: str
    value: float
    standard_error: float = 0.0
    source: str = ""


@cache
def published_observations(family: str = "") -> tuple[Observation, ...]:
    """Return the published ImageNet results of a family, or of all, from `published.csv`, which says their sources."""
    text = files("starsearch.accuracy").joinpath("published.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    found = (
        Observation(
            architecture=parse_architecture(row["architecture"]).canonical(),
            task=IMAGENET,
            value=float(row["top1_percent"]),
            source=row["source"],
        )
        for row in rows
    )
    return tuple(one for one in found if family in ("", one.architecture.family))


@cache
def published_top1_percent(source: str = "") -> Mapping[Architecture, float]:
    """Return the published ImageNet top-1 of each architecture; of several sources' that of `source`, else the first's.

    The first is the paper. Its table 3 has two networks of table 2, trained again.
    """
    found: dict[Architecture, float] = {}
    for one in published_observations():
        if one.source == source or one.architecture not in found:
            found[one.architecture] = one.value
    return MappingProxyType(found)

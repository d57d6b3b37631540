"""`Observation`: one network's accuracy on one task, and the published ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from types import MappingProxyType

from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture

IMAGENET = "imagenet"
"""The task of the published results: top-1 on ImageNet-1k at 224 px by the paper's recipe."""

_FEWEST_TO_RANK = 3  # networks on two tasks


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOrder:
    """How one task orders the networks that it shares with another.

    Attributes:
        networks: how many these are.
        tau: Kendall's τ between both, repeated trainings averaged; NaN of fewer than three networks.
        chance: how probable an order as good or better is if neither knows of the other; 1 where `tau` is NaN.
    """

    networks: int
    tau: float
    chance: float


def shared_order(told: Sequence[Observation], task: str, other: str) -> SharedOrder:
    """Return how the results of a task order the networks that both tasks have results of."""
    from scipy.stats import kendalltau

    by_task: dict[str, dict[Architecture, list[float]]] = {task: {}, other: {}}
    for one in told:
        if one.task in by_task:
            by_task[one.task].setdefault(one.architecture, []).append(one.value)
    shared = [one for one in by_task[task] if one in by_task[other]]
    here, there = ([fmean(values[one]) for one in shared] for values in by_task.values())
    if len(shared) < _FEWEST_TO_RANK:
        return SharedOrder(networks=len(shared), tau=math.nan, chance=1.0)
    found = kendalltau(here, there, alternative="greater")
    return SharedOrder(networks=len(shared), tau=float(found.statistic), chance=float(found.pvalue))

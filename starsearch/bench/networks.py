"""The networks of StarBench, in the order in which they are trained."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from starsearch.families.family import Architecture, count_macs, presets
from starsearch.resources import find_file
from starsearch.space import SearchSpace
from starsearch.study.space_file import load_space

SPACE = "starnet"
SEEDS = 3  # of the first drawn networks
NUM_REPEATED = 16
_SEED = 0
# Draws come in turns from eight strata of MACs: uniform draws would hardly ever be as small as a phone's networks.
_STRATA = np.geomspace(1e8, 1.2e9, 8)[:-1]


@cache
def open_space() -> SearchSpace:
    """Return the space that StarBench is a sample of: the shipped one, as it is."""
    return load_space(find_file(SPACE, "spaces"))


@cache
def bench_networks(count: int) -> Mapping[Architecture, str]:
    """Return the first `count` networks and the names of those that have one.

    They are the published StarNets, their twins in which every stage sums, then networks of the space drawn by a fixed
    seed, eight sizes in turns; a longer list begins with the shorter one.
    """
    return MappingProxyType(dict(islice(_networks(), count)))


def bench_trainings(count: int) -> list[tuple[Architecture, int]]:
    """Return what is trained, networks with seeds: the first 16 drawn ones by three seeds, all others by one."""
    first = 2 * len(_published())
    repeated = range(first, first + NUM_REPEATED)
    networks = enumerate(bench_networks(count))
    return [(one, seed) for at, one in networks for seed in range(SEEDS if at in repeated else 1)]


def repeated_trainings() -> list[tuple[Architecture, int]]:
    """Return those of the networks that are trained by three seeds, seed after seed."""
    first = 2 * len(_published())
    networks = list(bench_networks(first + NUM_REPEATED))[first:]
    return [(one, seed) for seed in range(SEEDS) for one in networks]


def _published() -> dict[Architecture, str]:
    return {one.canonical(): name for name, one in presets().items() if one.family == "starnet"}


def _networks() -> Iterator[tuple[Architecture, str]]:
    published = _published()
    twins = {cast("Any", replace)(one, ops=("sum",) * one.num_stages): f"{name}-sum" for one, name in published.items()}
    named = published | twins
    yield from named.items()
    space, rng, seen = open_space(), random.Random(_SEED), set(named)  # noqa: S311 — sampling, not secrets
    waiting = [deque[Architecture]() for _ in range(len(_STRATA) + 1)]
    for stratum in cycle(waiting):
        while not stratum:
            drawn = space.decode_architecture(space.sample(rng))
            if drawn not in seen:
                seen.add(drawn)
                waiting[np.searchsorted(_STRATA, count_macs(drawn))].append(drawn)
        yield stratum.popleft(), ""

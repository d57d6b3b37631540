"""Following long work: whoever watches is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from starsearch.measurement import Progress

T = TypeVar("T")


def ignore(_: Progress) -> None:
    """Nobody watches."""


def follow(steps: Generator[Progress, None, T], watch: Callable[[Progress], None] = ignore) -> T:
    """What the generator returns, its progress told to `watch`."""
    while True:
        try:
            watch(next(steps))
        except StopIteration as stop:
            value: T = stop.value
            return value

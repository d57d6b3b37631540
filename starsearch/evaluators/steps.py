"""Keeping an evaluation's computing apart from what is timed."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Y = TypeVar("Y")
T = TypeVar("T")


def without_measuring(steps: Generator[Y, None, T]) -> Generator[Y, None, T]:
    """The same generator, each of its stretches inside the lock that keeps latency from being measured meanwhile."""
    from starsearch.latency.lock import computing

    try:
        while True:
            with computing():
                try:
                    step = next(steps)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
            yield step
    finally:
        steps.close()

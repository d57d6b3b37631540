"""Progress of an evaluation's part, told as progress of the whole."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

from starsearch.measurement import Progress

T = TypeVar("T")


def scaled(steps: Generator[Progress, None, T], low: float, high: float) -> Generator[Progress, None, T]:
    """The same generator, its fractions mapped from 0..1 to low..high."""
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield replace(progress, fraction=low + (high - low) * progress.fraction)
    finally:
        steps.close()

"""Generators of an evaluation's steps: told as progress of the whole, kept apart from what is timed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TypeVar

from starsearch.measurement import Progress

X = TypeVar("X")
Y = TypeVar("Y")
T = TypeVar("T")


def without_measuring(steps: Generator[Y, None, T]) -> Generator[Y, None, T]:
    """The same generator, each of its stretches inside the lock that keeps latency from being measured meanwhile."""
    from starsearch.latency import computing

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


def mapped(steps: Generator[X, None, T], change: Callable[[X], Y]) -> Generator[Y, None, T]:
    """The same generator, each of its steps changed."""
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield change(step)
    finally:
        steps.close()


def scaled(steps: Generator[Progress, None, T], low: float, high: float) -> Generator[Progress, None, T]:
    """The same generator, its fractions mapped from 0..1 to low..high."""
    return mapped(steps, lambda progress: replace(progress, fraction=low + (high - low) * progress.fraction))

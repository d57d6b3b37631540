"""`Progress`: how far long work is, and the generators that report it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeVar

X = TypeVar("X")
Y = TypeVar("Y")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        fraction: of the whole evaluation, 0 to 1.
        stage: what is being done, for the user ("training", "validation", "latency").
        epoch: set once an epoch has been validated: its number, counted from 1; else None.
        values: readings at this moment by name with unit; with `epoch` set at least `top1_percent`,
            `top5_percent` and `train_loss`.
    """

    fraction: float
    stage: str
    epoch: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)


def duration_text(seconds: float) -> str:
    """Return a duration in words: "90 s", "45 min", "2.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def mapped(
    steps: Generator[X, None, T],
    change: Callable[[X], Y],
    inside: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Generator[Y, None, T]:
    """Yield each step of a generator changed, each made inside a new context; return what it returns."""
    try:
        while True:
            try:
                with inside():
                    step = next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield change(step)
    finally:
        steps.close()


def scaled(steps: Generator[Progress, None, T], low: float, high: float) -> Generator[Progress, None, T]:
    """Yield the steps of a generator, their fractions mapped from 0..1 to low..high; return what it returns."""
    return mapped(steps, lambda progress: replace(progress, fraction=low + (high - low) * progress.fraction))


def ignore(_: Progress) -> None:
    """Watch nothing."""


def follow(steps: Generator[X, None, T], watch: Callable[[X], object] = ignore) -> T:  # type: ignore[assignment]
    """Run a generator to its end, showing each step to `watch`; return what the generator returns."""
    while True:
        try:
            watch(next(steps))
        except StopIteration as stop:
            value: T = stop.value
            return value

"""`Parameter`: one searched value, as a sampler sees it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache

from starsearch.recipe import value_text

Value = int | float | str | None  # None: a choice of "none", as of no moving average


@dataclass(frozen=True, slots=True, kw_only=True)
class IntParameter:
    """Integers low, low + step … high, all inclusive; `high - low` is a multiple of `step`."""

    name: str
    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """All values, in order."""
        return tuple(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatParameter:
    """Real numbers of [low, high]; with `step` the grid low, low + step … high."""

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def values(self) -> tuple[float, ...] | None:
        """All values, in order and rounded to what the step can mean; None for a continuum."""
        return None if self.step is None else _grid(self.low, self.high, self.step)


@cache
def _grid(low: float, high: float, step: float) -> tuple[float, ...]:
    return tuple(round(low + index * step, 10) for index in range(round((high - low) / step) + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceParameter:
    """One of `values`, without order."""

    name: str
    choices: tuple[Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        """All values."""
        return self.choices


Parameter = IntParameter | FloatParameter | ChoiceParameter


def on_grid(parameter: Parameter, value: Value) -> Value:
    """Return `value` as the grid spells it: a sampler may say 0.30000000000000004 for 0.3."""
    if not isinstance(parameter, FloatParameter) or parameter.values is None or value is None:
        return value
    assert parameter.step is not None
    return parameter.values[round((float(value) - parameter.low) / parameter.step)]


def allows(parameter: Parameter, value: Value) -> bool:
    """Whether the parameter may take this value."""
    if isinstance(parameter, FloatParameter) and parameter.values is None:
        return isinstance(value, int | float) and parameter.low <= value <= parameter.high
    return value in (parameter.values or ())


def draw(parameter: Parameter, rng: random.Random) -> Value:
    """Return a value drawn uniformly, from a continuum with `log` uniformly in its logarithm."""
    if parameter.values is not None:
        return rng.choice(parameter.values)
    assert isinstance(parameter, FloatParameter)
    if parameter.log:
        return math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high)))
    return rng.uniform(parameter.low, parameter.high)


def describe_parameter(parameter: Parameter) -> str:
    """Return the values in words: "16..48 step 4", "0.001..0.01 log", "star, sum"."""
    if isinstance(parameter, ChoiceParameter):
        only = "one of " if len(parameter.choices) == 1 else ""  # a study with one choice is not one without
        return only + ", ".join(str(choice) for choice in parameter.choices)
    text = f"{value_text(parameter.low)}..{value_text(parameter.high)}"
    if parameter.step not in (None, 1):
        text += f" step {value_text(parameter.step)}"
    return text + (" log" if parameter.log else "")

"""`Parameter`: one searched value, as a sampler sees it."""

from __future__ import annotations

from dataclasses import dataclass

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
    def num_values(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatParameter:
    """Real numbers of [low, high]; with `step` the grid low, low + step … high."""

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def num_values(self) -> int | None:
        """How many values there are; None for a continuum."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceParameter:
    """One of `choices`, without order."""

    name: str
    choices: tuple[Value, ...]

    @property
    def num_values(self) -> int:
        """How many values there are."""
        return len(self.choices)


Parameter = IntParameter | FloatParameter | ChoiceParameter

"""What the fields of an architecture may hold: a `Rule` for each, beside the field in its dataclass.

The text form, the search space, the canonical form and the error messages all read these rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal

from starsearch.errors import ArchitectureError, did_you_mean

MAX_STAGES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one field of an architecture may hold."""

    name: str = ""  # the field's name, in the dataclass and in a space file
    default: Any = None  # its value where nothing else is said
    kind: Literal["int", "float", "choice"] = "int"  # the type of one value
    per_stage: bool = False  # the field is a tuple with one value per stage
    of_blocks: bool = False  # the field means nothing in a stage without blocks; its default is the same in all stages
    optional: bool = False  # the field may be None, and is not written then
    choices: tuple[str, ...] = ()  # the values of kind "choice"
    low: float = 1  # inclusive bounds of a number, wide enough for any sensible network
    high: float = 4096
    odd: bool = False  # only odd numbers keep the size of a map, as for kernels

    def check(self, value: Any) -> None:
        """Raise `ArchitectureError` unless `value` may stand in this field (as one stage's value)."""
        if self.kind == "choice":
            if value not in self.choices:
                raise ArchitectureError(
                    f"{self.name} is one of {', '.join(self.choices)}; got {value!r}."
                    f"{did_you_mean(str(value), self.choices)}"
                )
            return
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (self.kind == "float" and isinstance(value, float)):
            raise ArchitectureError(f"{self.name} is {self._number}; got {value!r}.")
        if not self.low <= value <= self.high:
            raise ArchitectureError(f"{self.name} lies in {self.low:g}..{self.high:g}; got {value!r}.")
        if self.odd and value % 2 == 0:
            raise ArchitectureError(f"{self.name} is odd, so that a map keeps its size; got {value!r}.")

    def check_field(self, value: Any, *, num_stages: int) -> None:
        """Raise `ArchitectureError` unless `value` may be the whole field."""
        if value is None and self.optional:
            return
        if not self.per_stage:
            self.check(value)
            return
        if not isinstance(value, tuple):
            raise ArchitectureError(f"{self.name} takes one value per stage; got {value!r}.")
        if not 1 <= len(value) <= MAX_STAGES:
            raise ArchitectureError(f"{self.name} takes 1 to {MAX_STAGES} stages; got {len(value)}.")
        if len(value) != num_stages:
            raise ArchitectureError(f"{self.name} has {len(value)} values but depths has {num_stages} stages.")
        for one in value:
            self.check(one)

    def parse(self, text: str) -> Any:
        """Return the field's value from its text, stages joined by "-"; where it is of the blocks, one serves all."""
        parts = text.split("-") if self.per_stage else [text]
        values = tuple(map(self._parse_one, parts))
        return values[0] if not self.per_stage or (self.of_blocks and len(values) == 1) else values

    def format(self, value: Any, *, whole: bool = False) -> str:
        """Return the text that `parse` reads; what is equal in all stages is written once, unless `whole`."""
        values = value if isinstance(value, tuple) else (value,)
        if self.of_blocks and len(set(values)) == 1 and not whole:
            values = values[:1]
        # repr of a float is the shortest text that reads back as the same number.
        return "-".join(repr(one) if isinstance(one, float) else str(one) for one in values)

    @property
    def _number(self) -> str:
        return "an integer" if self.kind == "int" else "a number"

    def _parse_one(self, text: str) -> Any:
        value: Any = text
        if self.kind != "choice":
            try:
                value = int(text) if text.lstrip("-").isdigit() else float(text)
            except ValueError:
                raise ArchitectureError(f"{self.name} is {self._number}; got {text!r}.") from None
        self.check(value)
        return value


def ruled(default: Any, **rule: Any) -> Any:
    """Return a dataclass field with this default and this `Rule`."""
    return field(default=default, metadata={"rule": Rule(default=default, **rule)})


@cache
def rules_of(architecture: type) -> Mapping[str, Rule]:
    """Return the rules of an architecture's fields, by name and in their order."""
    found: Any = architecture
    return {one.name: replace(one.metadata["rule"], name=one.name) for one in fields(found)}

"""`Dimension`: one searched field of an architecture, for the whole network or stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starsearch.families.family import find_family
from starsearch.families.fields import Rule, rules_of
from starsearch.space.parameters import Parameter, Value, describe_parameter, on_grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A value that is not searched."""

    value: Value | tuple[Value, ...]

    @property
    def values(self) -> tuple[Any]:
        """The only value."""
        return (self.value,)


Slot = Parameter | Fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A field of the architecture and what it may hold.

    A choice of values per stage is shown to a sampler as text ("2-2-8-3").
    """

    field: str  # its name
    slots: tuple[Slot, ...]  # one for the whole network, or one per stage
    by_stage: bool = False  # whether there is a slot per stage
    family: str = "starnet"  # the architectures' family

    @property
    def rule(self) -> Rule:
        """What the field may hold."""
        return rules_of(find_family(self.family))[self.field]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a sampler has to choose."""
        return tuple(slot for slot in self.slots if not isinstance(slot, Fixed))

    def decode(self, params: Mapping[str, Value]) -> Any:
        """Return the field's value that `params` stand for: a tuple by stage, or one value."""
        values = [
            self._decode_one(slot.value if isinstance(slot, Fixed) else on_grid(slot, params[slot.name]))
            for slot in self.slots
        ]
        return tuple(values) if self.by_stage else values[0]

    def value_in(self, stage: int, value: Any) -> Any:
        """Return what `value` of this dimension's slot means in `stage`."""
        decoded = self._decode_one(value)
        return decoded[stage] if isinstance(decoded, tuple) else decoded

    def describe(self) -> str:
        """Return the values in words as short as the YAML's."""
        texts = [
            self.rule.format(slot.value) if isinstance(slot, Fixed) else describe_parameter(slot) for slot in self.slots
        ]
        if not self.by_stage:
            return texts[0]
        return f"each stage: {texts[0]}" if len(set(texts)) == 1 else " | ".join(texts)

    def _decode_one(self, value: Any) -> Any:
        return self.rule.parse(value) if isinstance(value, str) and self.rule.per_stage and "-" in value else value

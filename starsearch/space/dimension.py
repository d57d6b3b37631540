"""`Dimension`: one searched field of an architecture, for the whole network or stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from starsearch.families.fields import FIELDS
from starsearch.families.text import format_value, parse_value
from starsearch.recipe import value_text
from starsearch.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A value that is not searched."""

    value: Value | tuple[Value, ...]


Slot = Parameter | Fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A field of the architecture and what it may hold.

    Attributes:
        field: its name in `Architecture`.
        slots: one for the whole network, or one a stage.
        by_stage: the slots are stages'.
    """

    field: str
    slots: tuple[Slot, ...]
    by_stage: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a sampler has to choose."""
        return tuple(slot for slot in self.slots if not isinstance(slot, Fixed))

    @property
    def num_values(self) -> int:
        """How many values the field may take."""
        return prod(len(slot_values(slot)) for slot in self.slots)

    def decode(self, params: Mapping[str, Value]) -> Any:
        """The field's value: a tuple by stage, or one value."""
        values = [self._decode_slot(slot, params) for slot in self.slots]
        return tuple(values) if self.by_stage else values[0]

    def slot_of(self, stage: int) -> Slot:
        """What decides this field in `stage`."""
        return self.slots[stage] if self.by_stage else self.slots[0]

    def stage_values(self, stage: int) -> tuple[Any, ...]:
        """All values the field may take in `stage`, without repeats."""
        values = (self.value_in(stage, value) for value in slot_values(self.slot_of(stage)))
        return tuple(dict.fromkeys(values))

    def value_in(self, stage: int, value: Any) -> Any:
        """What `value` of this dimension's slot means in `stage`."""
        decoded = decode_value(self.field, value)
        return decoded[stage] if isinstance(decoded, tuple) else decoded

    def describe(self) -> str:
        """In words as short as the YAML's."""
        texts = [_describe_slot(self.field, slot) for slot in self.slots]
        if not self.by_stage:
            return texts[0]
        if len(set(texts)) == 1:
            return f"each stage: {texts[0]}"
        return " | ".join(texts)

    def _decode_slot(self, slot: Slot, params: Mapping[str, Value]) -> Any:
        value = slot.value if isinstance(slot, Fixed) else on_grid(slot, params[slot.name])
        return decode_value(self.field, value)


def decode_value(field: str, value: Any) -> Any:
    """A slot's value as `Architecture` holds it; a choice of values by stage is text ("2-2-8-3")."""
    if isinstance(value, str) and FIELDS[field].per_stage and "-" in value:
        return parse_value(FIELDS[field], value)
    return value


def encode_choice(field: str, value: Any) -> Value:
    """What a sampler is shown for one choice: itself, or its text where it holds a value a stage."""
    return (
        format_value(field, tuple(value), whole=True)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )


def on_grid(parameter: Parameter, value: Value) -> Value:
    """`value` as the grid spells it: a sampler may say 0.30000000000000004 for 0.3."""
    if not isinstance(parameter, FloatParameter) or parameter.step is None:
        return value
    assert value is not None, "only a choice may be none"
    return float_grid(parameter)[round((float(value) - parameter.low) / parameter.step)]


def slot_values(slot: Slot) -> tuple[Any, ...]:
    """All values of a slot, in order.

    Raises:
        ValueError: the slot is a continuum.
    """
    if isinstance(slot, Fixed):
        return (slot.value,)
    if isinstance(slot, ChoiceParameter):
        return slot.choices
    if isinstance(slot, IntParameter):
        return tuple(range(slot.low, slot.high + 1, slot.step))
    return float_grid(slot)


def float_grid(slot: FloatParameter) -> tuple[float, ...]:
    """The values of a stepped range of reals, rounded to what the step can mean.

    Raises:
        ValueError: there is no step.
    """
    if slot.step is None:
        raise ValueError(f"{slot.name} has no step: its values cannot be listed")
    count = slot.num_values or 0
    return tuple(round(slot.low + index * slot.step, 10) for index in range(count))


def _describe_slot(field: str, slot: Slot) -> str:
    if isinstance(slot, Fixed):
        return format_value(field, slot.value)
    return describe_parameter(slot)


def describe_parameter(parameter: Parameter) -> str:
    """The values in words: "16..48 step 4", "0.001..0.01 log", "star, sum"."""
    if isinstance(parameter, ChoiceParameter):
        only = "one of " if len(parameter.choices) == 1 else ""  # a study with one choice is not one without
        return only + ", ".join(str(choice) for choice in parameter.choices)
    text = f"{value_text(parameter.low)}..{value_text(parameter.high)}"
    if parameter.step not in (None, 1):
        text += f" step {value_text(parameter.step)}"
    return text + (" log" if parameter.log else "")

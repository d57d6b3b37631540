"""`Architecture`: a network of the star-operation family, frozen and fully decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from starsearch.errors import ArchitectureError, did_you_mean
from starsearch.families.fields import (
    ACT_TYPES,
    ACTIVATIONS,
    FIELDS,
    MAX_STAGES,
    OPS,
    ArchitectureField,
    field_metadata,
)

__all__ = ["ACTIVATIONS", "ACT_TYPES", "OPS", "Architecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A StarNet ("Rewrite the Stars", CVPR 2024, figure 3 and table 5); `Architecture()` is StarNet-S1.

    A field that holds a value a stage is a tuple as long as `depths`; `Architecture.of` also takes one
    value for all stages.

    Attributes:
        family: which `nn.Module` the fields describe.
        embed_dim: channels of the first stage; each later stage doubles them unless `widths` is given.
        depths: blocks a stage.
        ops: how the two branches of a block meet, a stage: "star" (product) or "sum".
        activation: where the activation stands in a block, a stage (table 9 of the paper):
            "one" act(x1)∘x2, "both" act(x1)∘act(x2), "post" act(x1∘x2), "none" x1∘x2.
        act_type: the activation function, in the blocks and after the stem.
        mlp_ratio: hidden channels of a block by its width, a stage; rounded to a whole channel.
        kernel_size: of the two depthwise convolutions of a block, a stage; odd.
        widths: channels a stage, where they do not double.
        stem_width: channels after the stem: 32 in every published StarNet.

    Raises:
        ArchitectureError: a field's value breaks its rule.
    """

    family: str = field(default="starnet", metadata=field_metadata("family"))
    embed_dim: int = field(default=24, metadata=field_metadata("embed_dim"))
    depths: tuple[int, ...] = field(default=(2, 2, 8, 3), metadata=field_metadata("depths"))
    ops: tuple[str, ...] = field(default=("star",) * 4, metadata=field_metadata("ops"))
    activation: tuple[str, ...] = field(default=("one",) * 4, metadata=field_metadata("activation"))
    act_type: str = field(default="relu6", metadata=field_metadata("act_type"))
    mlp_ratio: tuple[float, ...] = field(default=(4,) * 4, metadata=field_metadata("mlp_ratio"))
    kernel_size: tuple[int, ...] = field(default=(7,) * 4, metadata=field_metadata("kernel_size"))
    widths: tuple[int, ...] | None = field(default=None, metadata=field_metadata("widths"))
    stem_width: int = field(default=32, metadata=field_metadata("stem_width"))

    def __post_init__(self) -> None:
        """Hold every field to its rule."""
        for name, rule in FIELDS.items():
            value = getattr(self, name)
            if value is None and rule.optional:
                continue
            _check_field(rule, value, num_stages=len(self.depths))
        if self.widths is None and self.stage_widths[-1] > FIELDS["widths"].high:
            raise ArchitectureError(
                f"embed_dim {self.embed_dim} doubled over {len(self.depths)} stages gives "
                f"{self.stage_widths[-1]} channels; at most {FIELDS['widths'].high:g} are sensible."
            )

    @classmethod
    def of(cls, **values: Any) -> Architecture:
        """The architecture with these fields, the rest StarNet-S1's; one value serves all stages.

        Raises:
            ArchitectureError: an unknown field, or a value that breaks a rule.
        """
        for name in values:
            if name not in FIELDS:
                raise ArchitectureError(
                    f"Unknown field {name!r}.{did_you_mean(name, FIELDS)} StarNet has: {', '.join(FIELDS)}."
                )
        depths = values.get("depths", FIELDS["depths"].default)
        num_stages = len(depths) if isinstance(depths, Sequence) else 1
        filled = {}
        for name, rule in FIELDS.items():
            value = values.get(name, _default_for(rule, num_stages))
            filled[name] = _per_stage(value, num_stages) if rule.per_stage and value is not None else value
        return cls(**filled)

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self.depths)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        if self.widths is not None:
            return self.widths
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    def hidden_width(self, stage: int) -> int:
        """Channels of each branch of the blocks of `stage`."""
        return hidden_width(self.mlp_ratio[stage], self.stage_widths[stage])

    def canonical(self) -> Architecture:
        """The one way of writing this network: fields that make no difference have their default.

        A stage without blocks has no operation, placement, ratio or kernel; widths that double are
        said by `embed_dim`; where they do not, `embed_dim` is the first stage's width; a ratio is the
        hidden width by the width. Two architectures are the same network if their canonical forms are equal.
        """
        widths = self.stage_widths
        doubling = tuple(widths[0] * 2**stage for stage in range(len(widths)))
        changes: dict[str, Any] = {
            "embed_dim": widths[0],
            "widths": None if widths == doubling else widths,
        }
        for name, rule in FIELDS.items():
            if rule.of_blocks:
                values = getattr(self, name)
                changes[name] = tuple(
                    canonical_value(name, value, width) if depth else rule.default[0]
                    for value, depth, width in zip(values, self.depths, widths, strict=True)
                )
        return replace(self, **changes)


def hidden_width(mlp_ratio: float, width: int) -> int:
    """Channels of a block's branches: the ratio times the width, to the nearest channel (halves up)."""
    return max(1, math.floor(mlp_ratio * width + 0.5))


def canonical_value(name: str, value: Any, width: int) -> Any:
    """One stage's value of field `name` as its canonical form has it, in a stage of `width` channels."""
    if name != "mlp_ratio":
        return value
    ratio = hidden_width(value, width) / width
    # A bound that was rounded to a channel beyond itself: the bound means the same number of channels.
    ratio = min(max(ratio, FIELDS[name].low), FIELDS[name].high)
    return int(ratio) if ratio == int(ratio) else ratio


def _default_for(rule: ArchitectureField, num_stages: int) -> Any:
    """The published default; what holds a value a stage is stretched, since S1's are equal in all stages."""
    if rule.per_stage and rule.of_blocks:
        return (rule.default[0],) * num_stages
    return rule.default


def _per_stage(value: Any, num_stages: int) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return (value,) * num_stages


def _check_field(rule: ArchitectureField, value: Any, *, num_stages: int) -> None:
    if not rule.per_stage:
        rule.check(value)
        return
    if not isinstance(value, tuple):
        raise ArchitectureError(f"{rule.name} takes a value a stage; got {value!r}.")
    if not 1 <= len(value) <= MAX_STAGES:
        raise ArchitectureError(f"{rule.name} takes 1 to {MAX_STAGES} stages; got {len(value)}.")
    if len(value) != num_stages:
        raise ArchitectureError(f"{rule.name} has {len(value)} values but depths has {num_stages} stages.")
    for one in value:
        rule.check(one)


assert set(FIELDS) == {f.name for f in fields(Architecture)}  # an invariant of this file, not of input

"""How many architectures a space holds, exactly and without listing them."""

from __future__ import annotations

from itertools import product
from math import prod

from starsearch.families.fields import FIELDS
from starsearch.space.dimension import Dimension, Fixed, slot_values
from starsearch.space.space import SearchSpace


def count_raw(space: SearchSpace) -> int:
    """Combinations of the dimensions' values, constraints left aside."""
    return prod(dimension.num_values for dimension in space.dimensions)


def count_canonical(space: SearchSpace) -> int:
    """Different networks among them, constraints left aside.

    They differ from the raw count where a stage may have no blocks: its operation, placement, ratio and
    kernel then mean nothing. For each set of stages that have blocks the number of different depths is
    multiplied by each field's number of different values on those stages.
    """
    by_field = {dimension.field: dimension for dimension in space.dimensions}
    depths = by_field.get("depths")
    patterns = product((False, True), repeat=space.num_stages)
    return sum(
        _count_depths(depths, space.num_stages, active) * _count_fields(by_field, active)
        for active in patterns
        if _count_depths(depths, space.num_stages, active)
    )


def _count_depths(depths: Dimension | None, num_stages: int, active: tuple[bool, ...]) -> int:
    """Different depths whose stages have blocks exactly where `active` says."""
    if depths is None:
        return int(all(active))
    if depths.by_stage:
        return prod(
            sum(bool(depth) == active[stage] for depth in depths.stage_values(stage)) for stage in range(num_stages)
        )
    shapes = {_whole_value(depths, value, num_stages) for value in slot_values(depths.slots[0])}
    return sum(tuple(bool(depth) for depth in shape) == active for shape in shapes)


def _count_fields(by_field: dict[str, Dimension], active: tuple[bool, ...]) -> int:
    return prod(_count_field(dimension, active) for name, dimension in by_field.items() if name != "depths")


def _count_field(dimension: Dimension, active: tuple[bool, ...]) -> int:
    """Different values of one field, seen on the active stages only where it belongs to the blocks."""
    rule = FIELDS[dimension.field]
    if not rule.of_blocks:
        return dimension.num_values
    stages = [stage for stage, on in enumerate(active) if on]
    if dimension.by_stage:
        return prod(len(dimension.stage_values(stage)) for stage in stages)
    slot = dimension.slots[0]
    if isinstance(slot, Fixed) or not stages:
        return 1
    seen = {tuple(dimension.value_in(stage, value) for stage in stages) for value in slot_values(slot)}
    return len(seen)


def _whole_value(dimension: Dimension, value: object, num_stages: int) -> tuple[int, ...]:
    return tuple(dimension.value_in(stage, value) for stage in range(num_stages))

"""One dimension of a space file.

embed_dim: {low: 16, high: 48, step: 4}          a range
kernel_size: [3, 5, 7]                           a list: one choice for the whole network
ops: {each: [star, sum]}                         each stage for itself
depths: [{low: 1, high: 4}, 2, {low: 2, high: 12}, {low: 1, high: 6}]    a value a stage
depths: {choices: [[2, 2, 8, 3], [1, 2, 6, 2]]}  one of these shapes
act_type: gelu                                   fixed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starsearch.errors import ArchitectureError
from starsearch.families.fields import ArchitectureField
from starsearch.space import ChoiceParameter, Dimension, Fixed, FloatParameter, IntParameter, Parameter, Slot
from starsearch.space.dimension import encode_choice
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile

RANGE_KEYS = ("low", "high", "step", "log")
# More values than this in one dimension is a slip of the pen, and slow to count.
_MAX_VALUES = 10_000


def parse_dimension(file: YamlFile, at: Location, rule: ArchitectureField, num_stages: int) -> Dimension:
    """The dimension that stands at `at` for the field `rule`.

    Raises:
        SpecError: a rule of the YAML or of the field is broken.
    """
    data = _at(file, at)
    stages = _stages(file, at, rule, data, num_stages)
    if stages is None:
        return Dimension(field=rule.name, slots=(_parse_slot(file, at, rule, data, rule.name, num_stages),))
    if len(stages) != num_stages:
        raise file.error(at, f"a value for each of the {num_stages} stages is needed; got {len(stages)}.")
    slots = tuple(
        _parse_slot(file, where, rule, value, f"{rule.name}.{stage}", num_stages=None)
        for stage, (where, value) in enumerate(stages)
    )
    return Dimension(field=rule.name, slots=slots, by_stage=True)


def parse_range(
    file: YamlFile, at: Location, data: Any, name: str, *, integer: bool, check: Callable[[float], object]
) -> Parameter:
    """`{low, high, step, log}` as a parameter; `check` holds both ends to the field's rule.

    Raises:
        SpecError: low above high, a step that misses high, a logarithm of nothing.
    """
    found = validate(_make_range(), data, file=file, at=at, known=RANGE_KEYS)
    low, high, step = found.low, found.high, found.step
    if low > high:
        raise file.error(at, f"low is at most high; got low {low:g}, high {high:g}.")
    if step is not None and found.log:
        raise file.error(at, "a range has a step or log: true, not both.")
    if found.log and low <= 0:
        raise file.error(at, f"low is above 0 where log is true; got {low:g}.")
    for end in (low, high):
        _check(file, at, check, end)
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        last = low + (high - low) // step * step
        raise file.error(at, f"the step {step:g} from {low:g} misses high {high:g}; the last value before is {last:g}.")
    count = (high - low) / (step or 1)
    if (integer or step is not None) and count > _MAX_VALUES:
        raise file.error(at, f"a range has at most {_MAX_VALUES:,} values; got {count:,.0f}. Take a larger step.")
    if integer:
        if not all(isinstance(number, int) for number in (low, high, step or 1)):
            raise file.error(at, f"low, high and step are integers; got {low}, {high}, {step}.")
        return IntParameter(name=name, low=int(low), high=int(high), step=int(step or 1), log=found.log)
    return FloatParameter(
        name=name, low=float(low), high=float(high), step=None if step is None else float(step), log=found.log
    )


def _make_range() -> Any:
    from typing import Annotated

    from annotated_types import Gt
    from pydantic import BaseModel, ConfigDict

    class Range(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
        low: int | float
        high: int | float
        step: Annotated[int | float, Gt(0)] | None = None
        log: bool = False

    return Range


def _at(file: YamlFile, at: Location) -> Any:
    data = file.data
    for part in at:
        data = data[part]
    return data


def _stages(
    file: YamlFile, at: Location, rule: ArchitectureField, data: Any, num_stages: int
) -> list[tuple[Location, Any]] | None:
    """What stands for each stage and where, or None where one thing stands for the whole network."""
    if isinstance(data, dict) and "each" in data:
        _only_key(file, at, rule, data, "each")
        return [((*at, "each"), data["each"])] * num_stages
    if isinstance(data, dict) and "stages" in data:
        _only_key(file, at, rule, data, "stages")
        if not isinstance(data["stages"], list):
            raise file.error((*at, "stages"), f"a list with an entry a stage is needed; got {shorten(data['stages'])}.")
        return [((*at, "stages", index), value) for index, value in enumerate(data["stages"])]
    if isinstance(data, list) and rule.per_stage:
        nested = any(isinstance(value, dict | list) for value in data)
        # [2, 2, 8, 3] are depths; [3, 5, 7] are kernels to choose from.
        if nested or not rule.of_blocks:
            return [((*at, index), value) for index, value in enumerate(data)]
    return None


def _only_key(file: YamlFile, at: Location, rule: ArchitectureField, data: dict[str, Any], key: str) -> None:
    if not rule.per_stage:
        raise file.error((*at, key), f"{rule.name} has one value for the whole network; {key!r} is for values a stage.")
    if len(data) > 1:
        others = ", ".join(repr(str(other)) for other in data if other != key)
        raise file.error(at, f"{key!r} stands alone; got also {others}.")


def _parse_slot(
    file: YamlFile, at: Location, rule: ArchitectureField, data: Any, name: str, num_stages: int | None
) -> Slot:
    """A range, a choice or a fixed value. `num_stages` is None where the slot is one stage's."""
    if isinstance(data, dict) and not {"choices", "fixed"} & set(data):
        if rule.kind == "choice":
            raise file.error(
                at, f"{rule.name} is chosen from a list of {', '.join(rule.choices)}; got {shorten(data)}."
            )
        return _parse_numbers(file, at, rule, data, name)
    if isinstance(data, dict):
        key = "choices" if "choices" in data else "fixed"
        if len(data) > 1:
            raise file.error(at, f"{key!r} stands alone; got also {', '.join(repr(str(k)) for k in data if k != key)}.")
        if key == "fixed":
            return Fixed(value=_parse_value(file, (*at, key), rule, data[key], num_stages))
        at, data = (*at, key), data[key]
        if not isinstance(data, list):
            raise file.error(at, f"choices are a list; got {shorten(data)}.")
    if isinstance(data, list):
        return _parse_choices(file, at, rule, data, name, num_stages)
    return Fixed(value=_parse_value(file, at, rule, data, num_stages))


def _parse_numbers(file: YamlFile, at: Location, rule: ArchitectureField, data: dict[str, Any], name: str) -> Parameter:
    ends = [data.get(key) for key in ("low", "high", "step") if data.get(key) is not None]
    integer = rule.kind == "int" or all(isinstance(end, int) for end in ends)
    if not integer and data.get("step") is None:
        raise file.error(at, f"a range of {rule.name} with fractions needs a step, so that its values can be counted.")
    parameter = parse_range(file, at, data, name, integer=integer, check=rule.check)
    if rule.odd and isinstance(parameter, IntParameter) and parameter.step % 2 and parameter.low != parameter.high:
        raise file.error(at, f"{rule.name} is odd, so its step is even; got step {parameter.step}.")
    return parameter


def _parse_choices(
    file: YamlFile, at: Location, rule: ArchitectureField, data: list[Any], name: str, num_stages: int | None
) -> ChoiceParameter:
    if not data:
        raise file.error(at, "a list of choices has at least one; got none.")
    values = [
        encode_choice(rule.name, _parse_value(file, (*at, index), rule, value, num_stages))
        for index, value in enumerate(data)
    ]
    for index, value in enumerate(values):
        if value in values[:index]:
            raise file.error((*at, index), f"{shorten(data[index])} stands twice; keep one.")
    return ChoiceParameter(name=name, choices=tuple(values))


def _parse_value(file: YamlFile, at: Location, rule: ArchitectureField, data: Any, num_stages: int | None) -> Any:
    """One fixed value, or a tuple of them by stage where the slot serves the whole network."""
    if isinstance(data, list) and rule.per_stage and num_stages is not None:
        if len(data) != num_stages:
            raise file.error(at, f"a value for each of the {num_stages} stages is needed; got {len(data)}.")
        for index, value in enumerate(data):
            _check(file, (*at, index), rule.check, value)
        return tuple(data)
    _check(file, at, rule.check, data)
    return data


def _check(file: YamlFile, at: Location, check: Callable[[Any], object], value: Any) -> None:
    try:
        check(value)
    except ArchitectureError as error:
        raise file.error(at, str(error)) from None

"""A space file as a `SearchSpace`: every rule of the YAML, each complaint with its line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from starsearch.errors import ArchitectureError, SpecError, did_you_mean
from starsearch.families.family import presets
from starsearch.families.fields import FAMILIES, FIELDS
from starsearch.objective import Constraint
from starsearch.space import Dimension, SearchSpace
from starsearch.study.dimension_file import parse_dimension
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import YamlFile, read_yaml

if TYPE_CHECKING:
    from starsearch.yaml_file import Location

SPACE_KEYS = ("family", "resolution", "dimensions", "constraints", "anchors")
CONSTRAINED = ("macs", "num_params")


def load_space(path: Path) -> SearchSpace:
    """The space that a file describes, checked as far as it can be without training.

    Raises:
        SpecError: a rule is broken; the text says file, line, rule and what came.
    """
    return parse_space(read_yaml(path))


def parse_space(file: YamlFile) -> SearchSpace:
    """The space of an already read file; raises as `load_space`."""
    data = _check_head(file)
    raw = data.get("dimensions")
    if not isinstance(raw, dict) or not raw:
        raise file.error(("dimensions",), f"a mapping of at least one field is needed; got {shorten(raw)}.")
    _check_fields(file, raw)
    num_stages = _num_stages(file, raw)
    dimensions = tuple(parse_dimension(file, ("dimensions", name), FIELDS[name], num_stages) for name in raw)
    space = SearchSpace(
        name=file.path.stem,
        family=data.get("family", FAMILIES[0]),
        resolution=data.get("resolution", 224),
        num_stages=num_stages,
        dimensions=tuple(d for d in dimensions if d is not None),
        constraints=parse_constraints(file, ("constraints",), data.get("constraints", {}), CONSTRAINED),
    )
    _check_architectures_exist(file, space)
    _check_satisfiable(file, space)
    anchors = parse_anchors(file, ("anchors",), data.get("anchors", []), space)
    return replace(space, anchors=anchors)


def parse_constraints(file: YamlFile, at: Location, data: Any, known: tuple[str, ...]) -> tuple[Constraint, ...]:
    """`{macs: {max: 1.2e9}}` as constraints, their names among `known`.

    Raises:
        SpecError: an unknown name, no bound, or bounds that cross.
    """
    if not isinstance(data, dict):
        raise file.error(at, f"a mapping such as {{{known[0]}: {{max: 1.2e9}}}} is needed; got {shorten(data)}.")
    found = []
    for name, bounds in data.items():
        where = (*at, str(name))
        if name not in known:
            raise file.error(
                where, f"unknown constraint {name!r}.{did_you_mean(str(name), known)} Known: {', '.join(known)}."
            )
        checked = validate(_make_bounds(), bounds, file=file, at=where, known=("min", "max"))
        if checked.min is None and checked.max is None:
            raise file.error(where, "a constraint has min, max or both; got neither.")
        if checked.min is not None and checked.max is not None and checked.min > checked.max:
            raise file.error(where, f"min is at most max; got min {checked.min:g}, max {checked.max:g}.")
        found.append(Constraint(name=name, low=checked.min, high=checked.max))
    return tuple(found)


def parse_anchors(file: YamlFile, at: Location, data: Any, space: SearchSpace) -> tuple[str, ...]:
    """Names of published architectures, each of which lies in the space.

    Raises:
        SpecError: an unknown name, a repeat, or an anchor outside the space.
    """
    if not isinstance(data, list):
        raise file.error(at, f"a list of names is needed; got {shorten(data)}.")
    for index, name in enumerate(data):
        where = (*at, index)
        if name not in presets():
            raise file.error(
                where, f"unknown anchor {name!r}.{did_you_mean(str(name), presets())} Known: {', '.join(presets())}."
            )
        if name in data[:index]:
            raise file.error(where, f"{name} stands twice; keep one.")
        why = space.why_outside(presets()[name])
        if why is not None:
            raise file.error(where, f"{name} lies outside the space: {why} Widen the space or leave the anchor out.")
    return tuple(data)


def _check_head(file: YamlFile) -> dict[str, Any]:
    """The file's keys but for the dimensions, checked."""
    from pydantic import BaseModel, ConfigDict

    class SpaceHead(BaseModel):
        model_config = ConfigDict(extra="forbid")
        family: Literal["starnet"] = "starnet"
        resolution: Annotated[int, Ge(32), Le(1024)] = 224
        dimensions: Any = None
        constraints: Any = None
        anchors: Any = None

    validate(SpaceHead, file.data, file=file, known=SPACE_KEYS)
    data: dict[str, Any] = file.data
    return data


def _make_bounds() -> Any:
    from pydantic import BaseModel, ConfigDict

    class Bounds(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
        min: Annotated[float, Ge(0)] | None = None
        max: Annotated[float, Ge(0)] | None = None

    return Bounds


def _check_fields(file: YamlFile, raw: dict[str, Any]) -> None:
    searchable = [name for name in FIELDS if name != "family"]
    for name in raw:
        if name not in searchable:
            raise file.error(
                ("dimensions", str(name)),
                f"unknown dimension {name!r}.{did_you_mean(str(name), searchable)} "
                f"StarNet has: {', '.join(searchable)}.",
            )
    if "widths" in raw and "embed_dim" in raw:
        raise file.error(("dimensions", "embed_dim"), "widths says every stage's channels; leave embed_dim out.")


def _num_stages(file: YamlFile, raw: dict[str, Any]) -> int:
    """As many as the first dimension that names its stages one by one says; else StarNet's four."""
    for name in ("depths", "widths"):
        data = raw.get(name)
        if isinstance(data, dict):
            choices = data.get("choices")
            data = (
                data.get("stages") or data.get("fixed") or (choices[0] if isinstance(choices, list) and choices else 1)
            )
        if isinstance(data, list) and data:
            return len(data)
        if data is not None and name == "depths" and not isinstance(data, list | dict | int):
            raise file.error(("dimensions", name), f"a list with a value a stage is needed; got {shorten(data)}.")
    return len(FIELDS["depths"].default)


def _check_architectures_exist(file: YamlFile, space: SearchSpace) -> None:
    """Building the smallest and the largest network meets the rules that span several fields."""
    for corner in (False, True):
        try:
            architecture = space.decode_architecture(space.corner(largest=corner))
        except ArchitectureError as error:
            raise file.error(("dimensions",), str(error)) from None
        smallest = min(architecture.stage_widths)
        for dimension in space.dimensions:
            _check_ratios_differ(file, dimension, smallest)


def _check_ratios_differ(file: YamlFile, dimension: Dimension, width: int) -> None:
    """Two ratios that give the same hidden width would be one network searched twice."""
    if dimension.field != "mlp_ratio":
        return
    for slot in range(len(dimension.slots)):
        ratios = sorted(dimension.stage_values(slot))
        gaps = [high - low for low, high in pairwise(ratios)]
        if gaps and min(gaps) * width < 1 - 1e-9:
            raise file.error(
                ("dimensions", "mlp_ratio"),
                f"ratios {min(gaps):g} apart give the same hidden width at {width} channels; "
                f"a step of at least {1 / width:g} makes each ratio another network.",
            )


def _check_satisfiable(file: YamlFile, space: SearchSpace) -> None:
    """Cost grows with every number, so the corners decide a one-sided bound; a band is tried by drawing."""
    import random

    shapes = any(isinstance(c, str) and "-" in c for p in space.parameters for c in getattr(p, "choices", ()))
    for constraint in () if shapes else space.constraints:  # whole shapes have no corner; they are drawn below
        for bound, largest in ((constraint.high, False), (constraint.low, True)):
            if bound is None:
                continue
            one_sided = replace(
                constraint, low=None if bound is constraint.high else bound, high=bound if not largest else None
            )
            corner = space.decode_architecture(space.corner(largest=largest))
            why = replace(space, constraints=(one_sided,)).broken_constraint(corner)
            if why is not None:
                size = "largest" if largest else "smallest"
                raise file.error(
                    ("constraints", constraint.name), f"no architecture satisfies it: of the {size} one, {why}"
                )
    try:
        space.sample(random.Random(0))  # noqa: S311 — sampling, not secrets
    except SpecError as error:
        raise file.error(("constraints",), str(error)) from None

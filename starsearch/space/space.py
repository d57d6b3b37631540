"""`SearchSpace`: the set of candidates that a file describes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, cast

from starsearch.candidate import Candidate
from starsearch.errors import ArchitectureError, SpecError
from starsearch.families.family import Architecture, count_macs, count_params, presets
from starsearch.families.fields import rules_of
from starsearch.families.text import architecture_hash
from starsearch.objective import Constraint
from starsearch.recipe import Recipe
from starsearch.resolution import Resolution, area, recorded
from starsearch.space.dimension import Dimension, Fixed
from starsearch.space.parameters import (
    ChoiceParameter,
    IntParameter,
    Parameter,
    Value,
    allows,
    describe_parameter,
    draw,
    on_grid,
)

RECIPE_PREFIX = "recipe."
RESOLUTION = "resolution"  # the parameter's name
# A space whose constraints refuse this many uniform draws in a row is called unsatisfiable.
_MAX_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The candidates among which a study searches; fields without a dimension have the family's defaults.

    Attributes:
        name: the file's, without its ending.
        family: the architectures' family.
        resolution: at which they are deployed, counted and measured; where that is searched, it is one of
            the values, at which anchors are, and fidelities train the others at their share of the pixels.
        searched_resolution: the values that a candidate may have in its place; None where it is not searched.
        num_stages: of every architecture; 4 unless the depths say otherwise.
        dimensions: the architecture's fields that the file names.
        recipe_parameters: the recipe's searched fields, named "recipe.lr" and so on.
        constraints: on "macs" (at `resolution`, 1000 classes) and "num_params".
        anchors: published architectures that lie in the space and are always evaluated.
    """

    name: str
    family: str = "starnet"
    resolution: Resolution = 224
    searched_resolution: IntParameter | ChoiceParameter | None = None
    num_stages: int = 4
    dimensions: tuple[Dimension, ...] = ()
    recipe_parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    anchors: tuple[str, ...] = ()

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that a sampler chooses, the architecture's first."""
        of_architecture = tuple(p for dimension in self.dimensions for p in dimension.parameters)
        of_image = (self.searched_resolution,) if self.searched_resolution else ()
        return of_architecture + of_image + self.recipe_parameters

    @property
    def num_architectures(self) -> int:
        """The combinations of the dimensions' values, before constraints.

        The networks are fewer where a stage may have no blocks, since its other values mean nothing then.
        """
        return math.prod(len(slot.values or ()) for dimension in self.dimensions for slot in dimension.slots)

    def decode_architecture(self, params: Mapping[str, Value]) -> Architecture:
        """Return the canonical architecture that `params` (a value for each parameter's name) stand for."""
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            value = dimension.decode(params)
            in_all_stages = dimension.rule.per_stage and not isinstance(value, tuple)
            values[dimension.field] = (value,) * self.num_stages if in_all_stages else value
        return Architecture.of(self.family, **values).canonical()

    def decode(self, params: Mapping[str, Value], recipe: Recipe) -> Candidate:
        """Return the candidate that `params` stand for; what they do not say of the recipe is `recipe`'s."""
        searched: dict[str, Any] = {
            parameter.name.removeprefix(RECIPE_PREFIX): on_grid(parameter, params[parameter.name])
            for parameter in self.recipe_parameters
        }
        pixels = self.resolution_in(params)
        return Candidate(
            architecture=self.decode_architecture(params),
            recipe=replace(recipe, **searched),
            resolution=None if pixels == self.resolution else pixels,
        )

    def resolution_in(self, params: Mapping[str, Value]) -> Resolution:
        """Return the resolution at which the candidate that `params` stand for is deployed."""
        return recorded(params[RESOLUTION]) if self.searched_resolution else self.resolution

    def encode(self, candidate: Candidate) -> dict[str, Value]:
        """Return the params that `decode` turns into this candidate.

        Raises:
            SpecError: the candidate lies outside; the text says in which dimension.
        """
        params = self.encode_architecture(candidate.architecture)
        if self.searched_resolution:
            params[RESOLUTION] = candidate.resolution or self.resolution
        for parameter in self.recipe_parameters:
            field = parameter.name.removeprefix(RECIPE_PREFIX)
            value = getattr(candidate.recipe, field)
            if not allows(parameter, value):
                raise SpecError(
                    f"The recipe's {field} is {value!r}, outside the searched {describe_parameter(parameter)}. "
                    "Anchors are trained by the recipe as it is: widen the range, or set another value in the recipe."
                )
            params[parameter.name] = value
        return params

    def encode_architecture(self, architecture: Architecture) -> dict[str, Value]:
        """Return the params of an architecture inside the space, constraints left aside.

        Raises:
            SpecError: it lies outside; the text says in which dimension.
        """
        target = architecture.canonical()
        if target.family != self.family:
            raise SpecError(f"it is a {target.family}; the space has {self.family}.")
        if target.num_stages != self.num_stages:
            raise SpecError(f"it has {target.num_stages} stages; the space has {self.num_stages}.")
        params: dict[str, Value] = {}
        for dimension in self.dimensions:
            params.update(_encode_dimension(dimension, target))
        got = self.decode_architecture(params)
        if got != target:
            different = [name for name in rules_of(type(target)) if getattr(got, name) != getattr(target, name)]
            raise SpecError(f"its {', '.join(different)} is not what the space leaves fixed.")
        return params

    def why_outside(self, architecture: Architecture) -> str | None:
        """Return words for what keeps this network out of the space; None where it lies inside."""
        try:
            self.encode_architecture(architecture)
        except SpecError as error:
            return str(error)
        return self.broken_constraint(architecture)

    def broken_constraint(self, architecture: Architecture, resolution: Resolution | None = None) -> str | None:
        """Return words for the first constraint that this network breaks; None where all hold."""
        for constraint in self.constraints:
            value = constrained_quantity(constraint.name, architecture, resolution or self.resolution)
            if constraint.high is not None and value > constraint.high:
                return f"its {constraint.name} are {value:,}; at most {constraint.high:,.0f} are allowed."
            if constraint.low is not None and value < constraint.low:
                return f"its {constraint.name} are {value:,}; at least {constraint.low:,.0f} are asked."
        return None

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Return params drawn uniformly from those that the constraints allow.

        Raises:
            SpecError: no draw satisfied the constraints.
        """
        for _ in range(_MAX_DRAWS):
            params = {parameter.name: draw(parameter, rng) for parameter in self.parameters}
            pixels = self.resolution_in(params)
            if not self.constraints or self.broken_constraint(self.decode_architecture(params), pixels) is None:
                return params
        raise SpecError(
            f"The constraints of {self.name} refused {_MAX_DRAWS:,} random architectures in a row: "
            f"{self.describe_constraints()}. Loosen them, or narrow the dimensions to what they allow."
        )

    def corner(self, *, largest: bool) -> dict[str, Value]:
        """Return params with the largest (or smallest) value of every number, and the first of unordered choices."""
        pick = max if largest else min
        corner: dict[str, Value] = {}
        searched = self.searched_resolution
        for parameter in self.parameters:
            if searched is not None and parameter is searched:
                corner[parameter.name] = pick(map(recorded, searched.values), key=area)
            elif isinstance(parameter, ChoiceParameter):
                numbers = [choice for choice in parameter.choices if isinstance(choice, int | float)]
                corner[parameter.name] = pick(numbers) if numbers else parameter.choices[0]
            else:
                corner[parameter.name] = parameter.high if largest else parameter.low
        return corner

    def sample_architectures(self, count: int, seed: int) -> Iterator[Architecture]:
        """Yield up to `count` different architectures, drawn uniformly from the params."""
        rng, seen = random.Random(seed), set()  # noqa: S311 — sampling, not secrets
        for _ in range(50 * count):
            architecture = self.decode_architecture(self.sample(rng))
            key = architecture_hash(architecture)
            if key not in seen:
                seen.add(key)
                yield architecture
            if len(seen) == count:
                return

    def anchors_inside(self) -> dict[str, str | None]:
        """Return every published architecture of the family: None where it lies in the space, else why not."""
        known = {name: one for name, one in presets().items() if one.family == self.family}
        return {name: self.why_outside(architecture) for name, architecture in known.items()}

    def describe_constraints(self) -> str:
        """Return the constraints in words: "macs at most 1.2e+09, …"; "none" where there are none."""
        return ", ".join(f"{one.name} {one}" for one in self.constraints) or "none"

    def describe(self) -> dict[str, str]:
        """Return what the space says, item by item, for comparing a study with its file."""
        items = {"space.family": self.family, "space.resolution": str(self.resolution)}
        items.update({f"space.dimensions.{d.field}": d.describe() for d in self.dimensions})
        if self.searched_resolution:
            items["space.resolution"] += f", searched: {describe_parameter(self.searched_resolution)}"
        items.update({parameter.name: describe_parameter(parameter) for parameter in self.recipe_parameters})
        items["space.constraints"] = self.describe_constraints()
        items["space.anchors"] = ", ".join(self.anchors)
        return items


def constrained_quantity(name: str, architecture: Architecture, resolution: Resolution) -> int:
    """Return what a space's constraint is about, by its name: "macs" or "num_params"."""
    return count_macs(architecture, resolution=resolution) if name == "macs" else count_params(architecture)


def _encode_dimension(dimension: Dimension, target: Architecture) -> dict[str, Value]:
    params: dict[str, Value] = {}
    for index, slot in enumerate(dimension.slots):
        if isinstance(slot, Fixed):
            continue
        stages = (index,) if dimension.by_stage else tuple(range(target.num_stages))
        found = _find_value(dimension, slot, stages, target)
        if found is None:
            value = target.written_out(dimension.field)
            where, value = (f" of stage {index + 1}", value[index]) if dimension.by_stage else ("", value)
            text = dimension.rule.format(value, whole=True)
            raise SpecError(
                f"its value of {dimension.field}{where} is {text}; the space has {describe_parameter(slot)}."
            )
        params[slot.name] = found
    return params


def _find_value(dimension: Dimension, slot: Parameter, stages: tuple[int, ...], target: Architecture) -> Any:
    """The slot's value that leaves the target the same network; None where there is none."""
    written = target.written_out(dimension.field)
    changed = {}
    for value in slot.values or ():
        in_stages = {stage: dimension.value_in(stage, value) for stage in stages}
        is_tuple = isinstance(written, tuple)
        changed[value] = tuple(in_stages.get(s, v) for s, v in enumerate(written)) if is_tuple else in_stages[0]
    # The target's own value first: comparing networks takes a hundred times as long.
    same = (value for value, field in changed.items() if field == written)
    equal = (value for value, field in changed.items() if _is_same(target, dimension.field, field))
    return next(chain(same, equal), None)


def _is_same(target: Architecture, name: str, value: Any) -> bool:
    try:
        same: bool = replace(cast("Any", target), **{name: value}).canonical() == target
    except ArchitectureError:  # a width that is too large once it has doubled
        return False
    return same

"""`SearchSpace`: the set of candidates that a file describes."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from starsearch.candidate import Candidate
from starsearch.errors import SpecError
from starsearch.families.family import Architecture, count_macs, count_params, presets
from starsearch.families.fields import FIELDS
from starsearch.families.starnet import canonical_value
from starsearch.families.text import architecture_hash
from starsearch.objective import Constraint
from starsearch.recipe import Recipe
from starsearch.space.dimension import Dimension, Fixed, describe_parameter, on_grid, slot_values
from starsearch.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, Value

RECIPE_PREFIX = "recipe."
# A space whose constraints refuse this many uniform draws in a row is called unsatisfiable.
_MAX_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The candidates among which a study searches; fields without a dimension are StarNet-S1's.

    Attributes:
        name: of the file, without its ending.
        family: of the architectures.
        resolution: at which they are deployed, counted and measured, in pixels.
        num_stages: of every architecture; 4 unless the depths say otherwise.
        dimensions: the architecture's fields that the file names.
        recipe_parameters: the recipe's searched fields, named "recipe.lr" and so on.
        constraints: on "macs" (conv + linear, at `resolution`, 1000 classes) and "num_params".
        anchors: published architectures that lie in the space and are always evaluated.
    """

    name: str
    family: str = "starnet"
    resolution: int = 224
    num_stages: int = 4
    dimensions: tuple[Dimension, ...] = ()
    recipe_parameters: tuple[Parameter, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    anchors: tuple[str, ...] = ()

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that a sampler chooses, the architecture's first."""
        of_architecture = tuple(p for dimension in self.dimensions for p in dimension.parameters)
        return of_architecture + self.recipe_parameters

    @cached_property
    def num_candidates(self) -> int | None:
        """An upper bound of distinct candidates; None where the recipe has a continuum."""
        sizes = [parameter.num_values for parameter in self.recipe_parameters]
        if any(size is None for size in sizes):
            return None
        from starsearch.space.counting import count_canonical

        return count_canonical(self) * math.prod(size for size in sizes if size is not None)

    def decode_architecture(self, params: Mapping[str, Value]) -> Architecture:
        """The canonical architecture that `params` (a value for each parameter's name) stand for."""
        values: dict[str, Any] = {"family": self.family}
        for dimension in self.dimensions:
            value = dimension.decode(params)
            in_all_stages = FIELDS[dimension.field].per_stage and not isinstance(value, tuple)
            values[dimension.field] = (value,) * self.num_stages if in_all_stages else value
        return Architecture.of(**values).canonical()

    def decode(self, params: Mapping[str, Value], recipe: Recipe) -> Candidate:
        """The candidate that `params` stand for; what they do not say of the recipe is `recipe`'s."""
        searched: dict[str, Any] = {
            parameter.name.removeprefix(RECIPE_PREFIX): on_grid(parameter, params[parameter.name])
            for parameter in self.recipe_parameters
        }
        return Candidate(architecture=self.decode_architecture(params), recipe=replace(recipe, **searched))

    def encode(self, candidate: Candidate) -> dict[str, Value]:
        """The params that `decode` turns into this candidate.

        Raises:
            SpecError: the candidate lies outside; the text says in which dimension.
        """
        params = self.encode_architecture(candidate.architecture)
        for parameter in self.recipe_parameters:
            field = parameter.name.removeprefix(RECIPE_PREFIX)
            value = getattr(candidate.recipe, field)
            if not _allows(parameter, value):
                raise SpecError(
                    f"The recipe's {field} is {value!r}, outside the searched {describe_parameter(parameter)}. "
                    "Anchors are trained by the recipe as it is: widen the range, or set another value in the recipe."
                )
            params[parameter.name] = value
        return params

    def encode_architecture(self, architecture: Architecture) -> dict[str, Value]:
        """The params of an architecture inside the space, constraints left aside.

        Raises:
            SpecError: it lies outside; the text says in which dimension.
        """
        target = architecture.canonical()
        if target.num_stages != self.num_stages:
            raise SpecError(f"it has {target.num_stages} stages; the space has {self.num_stages}.")
        params: dict[str, Value] = {}
        for dimension in self.dimensions:
            params.update(_encode_dimension(dimension, target))
        got = self.decode_architecture(params)
        if got != target:
            different = [f for f in Architecture.__slots__ if getattr(got, f) != getattr(target, f)]
            raise SpecError(f"its {', '.join(different)} is not what the space leaves fixed.")
        return params

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space holds this network and its constraints allow it."""
        return self.why_outside(architecture) is None

    def why_outside(self, architecture: Architecture) -> str | None:
        """Words for what keeps this network out of the space; None where it lies inside."""
        try:
            self.encode_architecture(architecture)
        except SpecError as error:
            return str(error)
        return self.broken_constraint(architecture)

    def broken_constraint(self, architecture: Architecture) -> str | None:
        """Words for the first constraint that this network breaks; None where all hold."""
        for constraint in self.constraints:
            value = constrained_quantity(constraint.name, architecture, self.resolution)
            if constraint.high is not None and value > constraint.high:
                return f"its {constraint.name} are {value:,}; at most {constraint.high:,.0f} are allowed."
            if constraint.low is not None and value < constraint.low:
                return f"its {constraint.name} are {value:,}; at least {constraint.low:,.0f} are asked."
        return None

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Params drawn uniformly from those that the constraints allow.

        Raises:
            SpecError: no draw satisfied the constraints.
        """
        for _ in range(_MAX_DRAWS):
            params = {parameter.name: _draw(parameter, rng) for parameter in self.parameters}
            if not self.constraints or self.broken_constraint(self.decode_architecture(params)) is None:
                return params
        raise SpecError(
            f"The constraints of {self.name} refused {_MAX_DRAWS:,} random architectures in a row: "
            f"{self.describe_constraints()}. Loosen them, or narrow the dimensions to what they allow."
        )

    def corner(self, *, largest: bool) -> dict[str, Value]:
        """Params with the largest (or smallest) value of every number, and the first of unordered choices."""
        pick = max if largest else min
        corner: dict[str, Value] = {}
        for parameter in self.parameters:
            if isinstance(parameter, ChoiceParameter):
                numbers = [choice for choice in parameter.choices if isinstance(choice, int | float)]
                corner[parameter.name] = pick(numbers) if numbers else parameter.choices[0]
            else:
                corner[parameter.name] = parameter.high if largest else parameter.low
        return corner

    def sample_architectures(self, count: int, seed: int) -> Iterator[Architecture]:
        """Up to `count` different architectures, drawn uniformly from the params."""
        rng, seen = random.Random(seed), set()  # noqa: S311 — sampling, not secrets
        for _ in range(50 * count):
            architecture = self.decode_architecture(self.sample(rng))
            key = architecture_hash(architecture)
            if key not in seen:
                seen.add(key)
                yield architecture
            if len(seen) == count:
                return

    def describe_constraints(self) -> str:
        """The constraints in words: "macs at most 1.2e+09, …"; "none" where there are none."""
        return ", ".join(f"{one.name} {one}" for one in self.constraints) or "none"

    def describe(self) -> dict[str, str]:
        """What the space says, item by item, for comparing a study with its file."""
        items = {"space.family": self.family, "space.resolution": str(self.resolution)}
        items.update({f"space.dimensions.{d.field}": d.describe() for d in self.dimensions})
        items.update({parameter.name: describe_parameter(parameter) for parameter in self.recipe_parameters})
        items["space.constraints"] = self.describe_constraints()
        items["space.anchors"] = ", ".join(self.anchors)
        return items


def constrained_quantity(name: str, architecture: Architecture, resolution: int) -> int:
    """What a space's constraint is about, by its name: "macs" or "num_params"."""
    return count_macs(architecture, resolution=resolution) if name == "macs" else count_params(architecture)


def anchors_inside(space: SearchSpace) -> dict[str, str | None]:
    """Every published architecture: None where it lies in the space, else why not."""
    return {name: space.why_outside(architecture) for name, architecture in presets().items()}


def _encode_dimension(dimension: Dimension, target: Architecture) -> dict[str, Value]:
    params: dict[str, Value] = {}
    for index, slot in enumerate(dimension.slots):
        if isinstance(slot, Fixed):
            continue
        stages = (index,) if dimension.by_stage else tuple(range(target.num_stages))
        found = next((v for v in slot_values(slot) if _fits(dimension, v, stages, target)), None)
        if found is None:
            where = f" of stage {index + 1}" if dimension.by_stage else ""
            value = _target_value(dimension.field, stages[0] if dimension.by_stage else None, target)
            raise SpecError(f"its {dimension.field}{where} is {value}; the space has {describe_parameter(slot)}.")
        params[slot.name] = found
    return params


def _fits(dimension: Dimension, value: Any, stages: tuple[int, ...], target: Architecture) -> bool:
    """Whether a slot's value gives the target's field in these stages; a stage without blocks fits any."""
    field = dimension.field
    want = target.stage_widths if field == "widths" else getattr(target, field)
    if not isinstance(want, tuple):
        return bool(dimension.value_in(0, value) == want)
    of_blocks = FIELDS[field].of_blocks
    return all(
        (of_blocks and target.depths[stage] == 0)
        or canonical_value(field, dimension.value_in(stage, value), target.stage_widths[stage]) == want[stage]
        for stage in stages
    )


def _target_value(field: str, stage: int | None, target: Architecture) -> Any:
    value = target.stage_widths if field == "widths" else getattr(target, field)
    if isinstance(value, tuple):
        return value[stage] if stage is not None else "-".join(str(v) for v in value)
    return value


def _allows(parameter: Parameter, value: Any) -> bool:
    if isinstance(parameter, FloatParameter) and parameter.step is None:
        return bool(parameter.low <= value <= parameter.high)
    return value in slot_values(parameter)


def _draw(parameter: Parameter, rng: random.Random) -> Value:
    if isinstance(parameter, ChoiceParameter | IntParameter) or parameter.step is not None:
        values: tuple[Value, ...] = slot_values(parameter)
        return rng.choice(values)
    if parameter.log:
        return math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high)))
    return rng.uniform(parameter.low, parameter.high)

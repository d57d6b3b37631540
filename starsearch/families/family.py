"""`Architecture`: a network, fully decided; each family of networks is a subclass of it."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, ClassVar, Self, cast

from starsearch.errors import ArchitectureError, did_you_mean
from starsearch.families.fields import Rule, rules_of
from starsearch.families.layers import Layer, LayerList, layer_macs, layer_params
from starsearch.resolution import Resolution, sides

# A family is a class in a file of its own, imported when it is asked for.
FAMILIES: dict[str, str] = {
    "starnet": "starsearch.families.starnet:StarNetArchitecture",
    "demonet": "starsearch.families.demonet:DemoNetArchitecture",
}


class Architecture(ABC):
    """A network, fully decided and immutable.

    A family is a subclass: a frozen dataclass whose fields are made by `starsearch.families.fields.ruled`, among them
    `depths` (blocks per stage). A field that holds one value per stage is a tuple as long as `depths`.

    Attributes:
        family: the family's name in texts and files.
        title: the family's name in sentences.
        module: where its `Network` is, as "module:class".
        published: the fields of its published networks, by their names.
    """

    __slots__ = ()

    family: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Hold every field to its rule."""
        for name, rule in rules_of(type(self)).items():
            rule.check_field(getattr(self, name), num_stages=len(self.depths))

    @classmethod
    def of(cls, family: str = "", **values: Any) -> Architecture:
        """Return the architecture with these fields; the others have the family's defaults, StarNet-S1's for StarNet.

        A field with one value per stage also takes one value for all of them. Without a name the family is that of
        the class, and of `Architecture` itself StarNet.

        Raises:
            ArchitectureError: an unknown family or field, or a value that breaks its rule.
        """
        kind = cls if cls is not Architecture and not family else find_family(family or "starnet")
        rules = rules_of(kind)
        for name in values:
            if name not in rules:
                raise ArchitectureError(
                    f"Unknown field {name!r}.{did_you_mean(name, rules)} {kind.title} has: {', '.join(rules)}."
                )
        depths = values.get("depths", rules["depths"].default)
        num_stages = len(depths) if isinstance(depths, Sequence) else 1
        defaults = {name: rule.default[0] if rule.of_blocks else rule.default for name, rule in rules.items()}
        return kind(**{name: _spread(rules[name], value, num_stages) for name, value in {**defaults, **values}.items()})

    @property
    def num_stages(self) -> int:
        """The number of stages."""
        return len(self.depths)

    def canonical(self) -> Self:
        """Return the one way of writing this network: two are the same if their canonical forms are equal.

        Fields of blocks have their defaults in a stage without blocks, where they mean nothing.
        """
        fields = self.canonical_fields()
        for name, rule in rules_of(type(self)).items():
            if rule.of_blocks and 0 in self.depths:
                values = zip(fields.get(name, getattr(self, name)), self.depths, strict=True)
                fields[name] = tuple(value if depth else rule.default[0] for value, depth in values)
        if all(getattr(self, name) == value for name, value in fields.items()):
            return self
        changed: Any = replace(cast("Any", self), **fields)
        return cast("Self", changed)

    def canonical_fields(self) -> dict[str, Any]:
        """Return the canonical values of fields that may say the same in several ways."""
        return {}

    def written_out(self, name: str) -> Any:
        """Return a field's value, also where the canonical form leaves it to another field."""
        return getattr(self, name)

    @abstractmethod
    def add_layers(self, layers: LayerList, *, num_classes: int, stem_stride: int) -> None:
        """Append the network's layers in the order of execution; without classes the features are its output."""


def find_family(name: str) -> type[Architecture]:
    """Return the architectures of a family."""
    if name not in FAMILIES:
        near = did_you_mean(str(name), FAMILIES)
        raise ArchitectureError(f"Unknown family {name!r}.{near} Known: {', '.join(FAMILIES)}.")
    return _resolve(FAMILIES[name])


@cache
def _resolve(path: str) -> type[Architecture]:
    found: type[Architecture] = pkgutil.resolve_name(path)
    return found


def presets() -> dict[str, Architecture]:
    """Return the published architectures by name, of all families."""
    return {
        name: Architecture.of(family, **values)
        for family in FAMILIES
        for name, values in find_family(family).published.items()
    }


def lower(
    architecture: Architecture,
    *,
    resolution: Resolution = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    stem_stride: int = 2,
) -> tuple[Layer, ...]:
    """Return the network's layers in the order of execution; the last one's output is the logits.

    Args:
        resolution: of the image: 224, or "192x320" (height and width).
        num_classes: outputs of the head; 0 leaves the head out, and the pooled features are the output.
        stem_stride: 2 as published; 1 for small images.

    Raises:
        ArchitectureError: the resolution is not positive.
    """
    layers = LayerList((in_chans, *sides(resolution)))
    architecture.add_layers(layers, num_classes=num_classes, stem_stride=stem_stride)
    return tuple(layers.layers)


def count_macs(
    architecture: Architecture, *, resolution: Resolution = 224, num_classes: int = 1000, stem_stride: int = 2
) -> int:
    """Return the multiply-accumulates of one image, in convolutions and the head.

    >>> count_macs(Architecture.of())
    421877376
    """
    return _count(architecture, resolution, num_classes, stem_stride)[0]


def count_params(architecture: Architecture, *, num_classes: int = 1000) -> int:
    """Return the number of learned parameters.

    >>> count_params(Architecture.of(), num_classes=10)
    2678098
    """
    return _count(architecture, 224, num_classes, 2)[1]


@lru_cache(maxsize=100_000)  # a search asks of each network of its pool, for several reasons
def _count(architecture: Architecture, resolution: Resolution, num_classes: int, stem_stride: int) -> tuple[int, int]:
    """Return multiply-accumulates and parameters."""
    found = LayerList((3, *sides(resolution)), counts=True)
    architecture.add_layers(found, num_classes=num_classes, stem_stride=stem_stride)
    counted = list(zip(found.layers, found.times, strict=True))
    macs = sum(layer_macs(one) * times for one, times in counted)
    return macs, sum(layer_params(one) * times for one, times in counted)


def _spread(rule: Rule, value: Any, num_stages: int) -> Any:
    """A field's value as a tuple, where it has one value per stage."""
    if not rule.per_stage or value is None:
        return value
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * num_stages

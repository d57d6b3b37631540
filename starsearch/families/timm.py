"""A network of timm's that is trained beside ours, by its name: `timm:mobilenetv4_conv_small`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture

TIMM = "timm:"  # in front of a name, where networks are named by text


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmArchitecture(Architecture):
    """A model of timm's: it can be trained, measured and compared, but starsearch does not know its layers."""

    family: ClassVar[str] = "timm"
    title: ClassVar[str] = "timm"
    module: ClassVar[str] = "starsearch.families.timm_module:TimmNetwork"
    depths: ClassVar[tuple[int, ...]] = ()  # type: ignore[misc] # there are no fields to search

    name: str

    def __post_init__(self) -> None:
        """Accept any name: the module is refused where timm has no such model."""

    def canonical(self) -> TimmArchitecture:
        """Return it as it is: a name is the one way of writing it."""
        return self

    def add_layers(self, *_: Any, **__: Any) -> None:
        """Refuse to list layers."""
        raise ArchitectureError(
            f"The layers of {TIMM}{self.name} are not known to starsearch: it can be trained (starsearch train), "
            "validated and timed (starsearch latency measure), not predicted or exported."
        )

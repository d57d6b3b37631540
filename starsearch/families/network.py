"""`Network`: an architecture as an `nn.Module`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer, layer_macs
from starsearch.families.text import parse_architecture
from starsearch.resolution import Resolution

A = TypeVar("A", bound=Architecture)


class Network(nn.Module):
    """What every family's module has besides timm's interface; its state-dict keys begin with its layers' names.

    Attributes:
        timm_name: the name under which its architectures are registered with timm.
        classifier: the name of its last layer.
        paper: where it was published, as timm's configuration of a model says it.
    """

    timm_name: ClassVar[str]
    classifier: str = "head"
    paper: Mapping[str, str] = {"paper_name": "Rewrite the Stars", "paper_ids": "arXiv:2403.19967"}
    architecture: Architecture
    num_classes: int
    in_chans: int
    stem_stride: int

    def lower(self, *, resolution: Resolution) -> tuple[Layer, ...]:
        """Return the layers of this network with their shapes, at a resolution in pixels."""
        return lower(
            self.architecture,
            resolution=resolution,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            stem_stride=self.stem_stride,
        )

    def count_macs(self, *, resolution: Resolution) -> int:
        """Return the multiply-accumulates of one image, in convolutions and the head."""
        return sum(map(layer_macs, self.lower(resolution=resolution)))

    def plain_fields(self) -> dict[str, Any]:
        """Return what the family's script beside an export (export/beside/FAMILY.py) builds the network from."""
        raise NotImplementedError

    def quick_forward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what computes the logits of (batch, channels, height, width) images fastest; without any, the module.

        A family may have a form of its own that leaves gradients of zero out as None.
        """
        return self


def join(op: str, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Return two branches joined by one of `BRANCH_OPS`."""
    match op:
        case "star":
            return x1 * x2
        case "sum":
            return x1 + x2
        case "max":
            return torch.maximum(x1, x2)
        case _:
            return x1 * x2.sigmoid()


def combine(block: Any, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """Return the branches of a block joined by its `op`, its `act` applied as its `activation` says (table 9)."""
    if block.activation in ("one", "both"):
        x1 = block.act(x1)
    if block.activation == "both":
        x2 = block.act(x2)
    x = join(block.op, x1, x2)
    return block.act(x) if block.activation == "post" else x


def parsed(architecture: Architecture | str, family: type[A]) -> A:
    """Return the architecture of a text; refuse one of another family."""
    found = parse_architecture(architecture) if isinstance(architecture, str) else architecture
    if not isinstance(found, family):
        raise ArchitectureError(f"{family.title} builds architectures of its own family; got {architecture}.")
    return found


def build_model(
    architecture: Architecture,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    stem_stride: int = 2,
    initialization: str = "official",
) -> Network:
    """Build a new network of this architecture, initialised from torch's global random state."""
    network: Network = pkgutil.resolve_name(architecture.module)(
        architecture,
        num_classes=num_classes,
        in_chans=in_chans,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        stem_stride=stem_stride,
        initialization=initialization,
    )
    return network

"""DemoNet, the isotropic network with which the paper shows the star operation (figure 1; supplement, algorithm 1).

The same network as a module is `starsearch.families.demonet_module`; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture
from starsearch.families.fields import ruled
from starsearch.families.layers import ACTIVATION_FUNCTIONS, ACTIVATION_PLACEMENTS, BRANCH_OPS, LayerList

PATCH_SIZE, KERNEL_SIZE, EXPANSION = 16, 7, 3
# Of tables 2 and 3 of the paper: width by depth.
_PUBLISHED_SIZES = (
    *((width, 12) for width in (96, 128, 160, 192, 224, 256, 288)),
    *((192, depth) for depth in (10, 14, 16, 18, 20, 22)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNetArchitecture(Architecture):
    """A DemoNet; with every field at its default it is that of table 4: width 192, depth 12, star.

    Patches of 16×16 pixels become `width` channels; then come blocks of layer norm → 7×7 depthwise → two branches of
    3·width channels → star or sum → projection → layer scale → + input; then the mean, a layer norm and the head.

    Attributes:
        width: channels of the whole network.
        depths: the number of blocks, the one stage's.
        ops: how the branches of a block are combined: "star" (product) or "sum".
        activation: where the activation function stands in a block: "one" act(x1)∘x2, as published, or "none"
            (table 4); "both" and "post" as in StarNet.
        act_type: the activation function.
        layer_scale: what the learned scale of each block's output begins with. A short training leaves blocks that
            begin at the published 1e-6 idle.
    """

    family: ClassVar[str] = "demonet"
    title: ClassVar[str] = "DemoNet"
    module: ClassVar[str] = "starsearch.families.demonet_module:DemoNet"
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        f"demonet_d{depth}_w{width}_{op}": {"width": width, "depths": depth, "ops": op}
        for width, depth in _PUBLISHED_SIZES
        for op in ("sum", "star")
    }

    width: int = ruled(192)
    depths: tuple[int, ...] = ruled((12,), per_stage=True, low=1, high=64)
    ops: tuple[str, ...] = ruled(("star",), kind="choice", per_stage=True, of_blocks=True, choices=BRANCH_OPS)
    activation: tuple[str, ...] = ruled(
        ("one",), kind="choice", per_stage=True, of_blocks=True, choices=ACTIVATION_PLACEMENTS
    )
    act_type: str = ruled("gelu", kind="choice", choices=ACTIVATION_FUNCTIONS)
    layer_scale: float = ruled(1e-6, kind="float", low=1e-9, high=10)

    def __post_init__(self) -> None:
        """Hold every field to its rule; a DemoNet has one stage."""
        Architecture.__post_init__(self)
        if len(self.depths) != 1:
            raise ArchitectureError(f"DemoNet has one stage: depths is one number; got {self.depths}.")

    def add_layers(self, layers: LayerList, *, num_classes: int, stem_stride: int) -> None:
        """Append the network's layers; at stem stride 1 the patches overlap by half."""
        layers.add("stem", "patches", width=self.width, kernel_size=PATCH_SIZE, stride=PATCH_SIZE // 2 * stem_stride)
        for block in layers.blocks(self.depths[0]):
            self._add_block(layers, f"blocks.{block}")
        layers.add("pool", "pool")
        layers.add("norm", "layer_norm")
        if num_classes:
            layers.add("head", "linear", width=num_classes)

    def _add_block(self, layers: LayerList, name: str) -> None:
        block_input = layers.last
        layers.add(f"{name}.norm", "layer_norm")
        mixed = layers.depthwise(f"{name}.dwconv", kernel_size=KERNEL_SIZE)
        layers.branches(
            name,
            mixed,
            width=EXPANSION * self.width,
            op=self.ops[0],
            activation=self.activation[0],
            act_type=self.act_type,
        )
        layers.add(f"{name}.g", "conv", width=self.width)
        scaled = layers.add(f"{name}.scale", "scale")
        layers.add(f"{name}.residual", "residual", inputs=(block_input, scaled))

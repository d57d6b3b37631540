"""StarNet ("Rewrite the Stars", CVPR 2024): its fields, its published networks and its layers.

The same network as a module is `starsearch.families.starnet_module`; a test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture
from starsearch.families.fields import ruled, rules_of
from starsearch.families.layers import ACTIVATION_FUNCTIONS, ACTIVATION_PLACEMENTS, BRANCH_OPS, LayerList

_MOST_CHANNELS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StarNetArchitecture(Architecture):
    """A StarNet (figure 3 and table 5 of the paper); with every field at its default it is StarNet-S1.

    Attributes:
        embed_dim: channels of the first stage; each later stage doubles them unless `widths` is given.
        depths: blocks per stage.
        ops: how the two branches of a block are combined, per stage: "star" (product) or "sum".
        activation: where the activation function stands in a block, per stage (table 9 of the paper):
            "one" act(x1)∘x2, "both" act(x1)∘act(x2), "post" act(x1∘x2), "none" x1∘x2.
        act_type: the activation function, in the blocks and after the stem.
        mlp_ratio: a block's hidden channels divided by its width, per stage; rounded to a whole channel.
        branches: what a star or sum joins, per stage: "both" W1ᵀX and W2ᵀX, as published; "one" W2ᵀact(W1ᵀX) and X
            itself, with half as many hidden channels again, which makes it as many multiply-adds (section 4.3);
            "self" W1ᵀX with itself (section 3.3).
        kernel_size: of a block's two depthwise convolutions, per stage; odd.
        widths: channels per stage, where they do not double.
        stem_width: channels after the stem, 32 in every published StarNet.
    """

    family: ClassVar[str] = "starnet"
    title: ClassVar[str] = "StarNet"
    module: ClassVar[str] = "starsearch.families.starnet_module:StarNet"
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # Table 14 of the paper's supplement.
        "starnet_s050": {"embed_dim": 16, "depths": (1, 1, 3, 1), "mlp_ratio": 3},
        "starnet_s100": {"embed_dim": 20, "depths": (1, 2, 4, 1), "mlp_ratio": 4},
        "starnet_s150": {"embed_dim": 24, "depths": (1, 2, 4, 2), "mlp_ratio": 3},
        # Table 5 of the paper.
        "starnet_s1": {},
        "starnet_s2": {"embed_dim": 32, "depths": (1, 2, 6, 2)},
        "starnet_s3": {"embed_dim": 32, "depths": (2, 2, 8, 4)},
        "starnet_s4": {"embed_dim": 32, "depths": (3, 3, 12, 5)},
    }

    embed_dim: int = ruled(24)
    depths: tuple[int, ...] = ruled((2, 2, 8, 3), per_stage=True, low=0, high=64)
    ops: tuple[str, ...] = ruled(("star",) * 4, kind="choice", per_stage=True, of_blocks=True, choices=BRANCH_OPS)
    activation: tuple[str, ...] = ruled(
        ("one",) * 4, kind="choice", per_stage=True, of_blocks=True, choices=ACTIVATION_PLACEMENTS
    )
    act_type: str = ruled("relu6", kind="choice", choices=ACTIVATION_FUNCTIONS)
    mlp_ratio: tuple[float, ...] = ruled((4,) * 4, kind="float", per_stage=True, of_blocks=True, low=0.25, high=16)
    branches: tuple[str, ...] = ruled(
        ("both",) * 4, kind="choice", per_stage=True, of_blocks=True, choices=("both", "one", "self")
    )
    kernel_size: tuple[int, ...] = ruled((7,) * 4, per_stage=True, of_blocks=True, high=31, odd=True)
    widths: tuple[int, ...] | None = ruled(None, per_stage=True, optional=True)
    stem_width: int = ruled(32)

    def __post_init__(self) -> None:
        """Hold every field to its rule, and the widths that follow from `embed_dim` to theirs."""
        Architecture.__post_init__(self)
        if self.stage_widths[-1] > _MOST_CHANNELS:
            raise ArchitectureError(
                f"embed_dim {self.embed_dim} doubled over {len(self.depths)} stages gives "
                f"{self.stage_widths[-1]} channels; at most {_MOST_CHANNELS} are sensible."
            )

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        if self.widths is not None:
            return self.widths
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    def hidden_width(self, stage: int) -> int:
        """Return the channels of each branch of a stage's blocks: the ratio times the width, to the nearest channel."""
        return max(1, math.floor(self.mlp_ratio[stage] * self.stage_widths[stage] + 0.5))

    def inner_width(self, stage: int) -> int:
        """Return the channels to which a stage's blocks expand: with one branch half as many again."""
        hidden = self.hidden_width(stage)
        return hidden * 3 // 2 if self.branches[stage] == "one" else hidden

    def canonical_fields(self) -> dict[str, Any]:
        """Return widths that double as `embed_dim`, others with the first as `embed_dim`; ratios by hidden channels."""
        widths = self.stage_widths
        doubling = tuple(widths[0] * 2**stage for stage in range(len(widths)))
        return {
            "embed_dim": widths[0],
            "widths": None if widths == doubling else widths,
            "mlp_ratio": tuple(map(self._canonical_ratio, range(len(widths)))),
        }

    def written_out(self, name: str) -> Any:
        """Return a field's value; `widths` also where they double."""
        return self.stage_widths if name == "widths" else getattr(self, name)

    def add_layers(self, layers: LayerList, *, num_classes: int, stem_stride: int) -> None:
        """Append the network's layers."""
        layers.add("stem.0", "conv", width=self.stem_width, kernel_size=3, stride=stem_stride, batch_norm=True)
        layers.add("stem.1", "activation", act_type=self.act_type)
        for stage, (width, depth) in enumerate(zip(self.stage_widths, self.depths, strict=True)):
            layers.add(f"stages.{stage}.0", "conv", width=width, kernel_size=3, stride=2, batch_norm=True)
            for block in layers.blocks(depth):
                self._add_block(layers, stage, f"stages.{stage}.{block + 1}")
        layers.add("norm", "norm")
        layers.add("pool", "pool")
        if num_classes:
            layers.add("head", "linear", width=num_classes)

    def _add_block(self, layers: LayerList, stage: int, name: str) -> None:
        """A block: depthwise → two branches → star or sum → projection → depthwise → + input (figure 3)."""
        placement, kernel_size = self.activation[stage], self.kernel_size[stage]
        block_input = layers.last
        mixed = layers.depthwise(f"{name}.dwconv", kernel_size=kernel_size, batch_norm=True)
        if self.branches[stage] == "one":
            self._add_one_branch(layers, stage, name, mixed)
        else:
            layers.branches(
                name,
                mixed,
                width=self.hidden_width(stage),
                op=self.ops[stage],
                activation=placement,
                act_type=self.act_type,
                is_shared=self.branches[stage] == "self",
            )
            layers.add(f"{name}.g", "conv", width=self.stage_widths[stage], batch_norm=True)
        last = layers.depthwise(f"{name}.dwconv2", kernel_size=kernel_size)
        layers.add(f"{name}.residual", "residual", inputs=(block_input, last))

    def _add_one_branch(self, layers: LayerList, stage: int, name: str, mixed: str) -> None:
        """Expansion, activation and projection of one branch, and its star or sum with the block's own map."""
        placement = self.activation[stage]
        layers.add(f"{name}.f1", "conv", inputs=(mixed,), width=self.inner_width(stage))
        if placement in ("one", "both"):
            layers.add(f"{name}.f1.act", "activation", act_type=self.act_type)
        branch = layers.add(f"{name}.g", "conv", width=self.stage_widths[stage], batch_norm=True)
        other = mixed
        if placement == "both":
            other = layers.add(f"{name}.f2.act", "activation", inputs=(mixed,), act_type=self.act_type)
        layers.add(f"{name}.{self.ops[stage]}", self.ops[stage], inputs=(branch, other))
        if placement == "post":
            layers.add(f"{name}.act", "activation", act_type=self.act_type)

    def _canonical_ratio(self, stage: int) -> float:
        rule = rules_of(StarNetArchitecture)["mlp_ratio"]
        ratio = self.hidden_width(stage) / self.stage_widths[stage]
        # A bound that was rounded to a channel beyond itself: the bound means the same number of channels.
        ratio = min(max(ratio, rule.low), rule.high)
        return int(ratio) if ratio == int(ratio) else ratio

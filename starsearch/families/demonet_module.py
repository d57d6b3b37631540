"""DemoNet for the whole design space, as one module with timm's parts, and its registration with timm."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from timm.layers import DropPath, LayerNorm2d, LayerScale2d, calculate_drop_path_rates
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.starnet import ConvBN
from torch import nn

from starsearch.errors import ArchitectureError
from starsearch.families.demonet import EXPANSION, KERNEL_SIZE, PATCH_SIZE, DemoNetArchitecture
from starsearch.families.layers import ACTIVATION_FUNCTIONS, LAYER_NORM_EPSILON
from starsearch.families.network import Network, combine, parsed


class Block(nn.Module):
    """Layer norm → depthwise → two branches → star or sum → projection → layer scale → + input."""

    def __init__(self, architecture: DemoNetArchitecture, drop_path: float) -> None:
        super().__init__()
        width, hidden = architecture.width, EXPANSION * architecture.width
        self.op, self.activation = architecture.ops[0], architecture.activation[0]
        self.norm = LayerNorm2d(width, eps=LAYER_NORM_EPSILON)
        self.dwconv = ConvBN(width, width, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=width, with_bn=False)
        self.f1 = ConvBN(width, hidden, with_bn=False)
        self.f2 = ConvBN(width, hidden, with_bn=False)
        self.act = getattr(nn, ACTIVATION_FUNCTIONS[architecture.act_type].torch)()
        self.g = ConvBN(hidden, width, with_bn=False)
        self.scale = LayerScale2d(width, architecture.layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, width, height, width of the map) to the same shape."""
        y = self.dwconv(self.norm(x))
        y = self.g(combine(self, self.f1(y), self.f2(y)))
        out: torch.Tensor = x + self.drop_path(self.scale(y))
        return out


class DemoNet(Network):
    """A DemoNet of any `DemoNetArchitecture`.

    Args:
        architecture: the architecture or its one-line text.
        num_classes: outputs of the head; 0 for none.
        drop_path_rate: stochastic depth of the last block; earlier ones rise linearly from 0.
        stem_stride: 2 as published; 1 for small images, whose patches then overlap by half.
        initialization: "official" (and "timm", the same here) draws convolutions and linear layers from a truncated
            normal of 0.02; "identity" has the projections at zero and the layer scales at one besides, so that every
            block starts as the identity but learns from the first step on.

    Raises:
        ArchitectureError: the text cannot be read, or it is another family's.
    """

    timm_name: ClassVar[str] = "starsearch_demonet"

    def __init__(
        self,
        architecture: DemoNetArchitecture | str = "demonet_d12_w192_star",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        stem_stride: int = 2,
        initialization: str = "official",
    ) -> None:
        super().__init__()
        architecture = parsed(architecture, DemoNetArchitecture)
        if global_pool != "avg":
            raise ArchitectureError(f"DemoNet pools by the mean: global_pool is 'avg'; got {global_pool!r}.")
        self.architecture, self.num_classes, self.in_chans = architecture, num_classes, in_chans
        self.stem_stride, self.num_features = stem_stride, architecture.width
        drop_paths = cast("list[float]", calculate_drop_path_rates(drop_path_rate, architecture.depths[0]))
        stride = PATCH_SIZE // 2 * stem_stride
        self.stem = ConvBN(in_chans, architecture.width, PATCH_SIZE, stride=stride, with_bn=False)
        self.blocks = nn.Sequential(*(Block(architecture, rate) for rate in drop_paths))
        self.norm = nn.LayerNorm(architecture.width, eps=LAYER_NORM_EPSILON)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(architecture.width, num_classes) if num_classes else nn.Identity()
        self.apply(_init_weights)
        if initialization == "identity":
            self.apply(_init_as_identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (batch, channels, height, width) to logits (batch, classes)."""
        logits: torch.Tensor = self.head(self.drop(self.norm(self.blocks(self.stem(x)).mean((2, 3)))))
        return logits

    def plain_fields(self) -> dict[str, Any]:
        """Return width, blocks, operation and placement."""
        one = self.architecture
        assert isinstance(one, DemoNetArchitecture)
        return {"width": one.width, "blocks": one.depths[0], "operation": one.ops[0], "activated": one.activation[0]}


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_as_identity(module: nn.Module) -> None:
    if isinstance(module, Block):
        nn.init.zeros_(module.g.get_parameter("conv.weight"))
        nn.init.ones_(module.scale.gamma)


default_cfgs = generate_default_cfgs(
    {"starsearch_demonet.untrained": {"first_conv": "stem.conv", "classifier": "head"}}
)


@register_model
def starsearch_demonet(pretrained: bool = False, **kwargs: Any) -> DemoNet:
    """`timm.create_model("starsearch_demonet", architecture="demonet:width=96,ops=sum")`."""
    model: DemoNet = build_model_with_cfg(DemoNet, "starsearch_demonet", pretrained, **kwargs)
    return model

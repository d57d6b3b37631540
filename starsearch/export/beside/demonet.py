"""This folder's network in plain PyTorch: `load()` returns it with its trained weights.

It takes images (batch, channels, height, width), prepared as in run_torch.py, and returns logits (batch, classes) in
the order of CLASS_NAMES. Needs torch and safetensors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

NETWORK: dict[str, Any] = {}
CLASS_NAMES: list[str] = []
# The two branches of a block by its operation.
JOINED: dict[str, Callable[..., torch.Tensor]] = {
    "star": torch.mul,
    "sum": torch.add,
    "max": torch.maximum,
    "gate": lambda one, two: one * two.sigmoid(),
}


class Conv(nn.Sequential):
    """A convolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups))


class MapNorm(nn.LayerNorm):
    """A layer norm over the channels of a map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same shape."""
        return x * self.gamma.view(1, -1, 1, 1)


class Block(nn.Module):
    """Norm, depthwise convolution, two branches, their product (star) or sum, projection, scale, plus the input."""

    def __init__(self, width: int, operation: str, activated: str) -> None:
        super().__init__()
        self.norm = MapNorm(width)
        self.dwconv = Conv(width, width, 7, padding=3, groups=width)
        self.f1, self.f2 = Conv(width, 3 * width), Conv(width, 3 * width)
        self.act = getattr(nn, NETWORK["activation"])()
        self.g = Conv(3 * width, width)
        self.scale = Scale(width)
        self.operation, self.activated = operation, activated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same shape."""
        y = self.dwconv(self.norm(x))
        one, two = self.f1(y), self.f2(y)
        if self.activated in ("one", "both"):
            one = self.act(one)
        if self.activated == "both":
            two = self.act(two)
        met = JOINED[self.operation](one, two)
        out: torch.Tensor = x + self.scale(self.g(self.act(met) if self.activated == "post" else met))
        return out


class Network(nn.Module):
    """The network of the table above, untrained."""

    def __init__(self) -> None:
        super().__init__()
        width, classes = NETWORK["width"], NETWORK["num_classes"]
        self.stem = Conv(NETWORK["in_channels"], width, 16, stride=8 * NETWORK["stem_stride"])
        blocks = (Block(width, NETWORK["operation"], NETWORK["activated"]) for _ in range(NETWORK["blocks"]))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes) if classes else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (batch, channels, height, width) to logits (batch, classes)."""
        logits: torch.Tensor = self.head(self.norm(self.blocks(self.stem(images)).mean((2, 3))))
        return logits


def load(folder: Path | str = Path(__file__).parent) -> Network:
    """The network with the weights of `folder`, ready to answer images."""
    network = Network()
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()

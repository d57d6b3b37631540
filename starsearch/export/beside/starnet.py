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

# A stage: width, blocks, channels of a branch, kernel size, operation, where the activation function stands, branches.
NETWORK: dict[str, Any] = {}
CLASS_NAMES: list[str] = []
# The two branches of a block by its operation.
JOINED: dict[str, Callable[..., torch.Tensor]] = {
    "star": torch.mul,
    "sum": torch.add,
    "max": torch.maximum,
    "gate": lambda one, two: one * two.sigmoid(),
}


class ConvBN(nn.Sequential):
    """A convolution that keeps the map's size at stride 1, and its batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, norm: bool = True
    ) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups))
        if norm:
            self.add_module("bn", nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Depthwise convolution, two branches, their product (star) or sum, projection, depthwise, plus the input."""

    def __init__(self, width: int, hidden: int, kernel: int, operation: str, activated: str, branches: str) -> None:
        super().__init__()
        self.dwconv = ConvBN(width, width, kernel, groups=width)
        self.f1 = ConvBN(width, hidden, norm=False)
        if branches == "both":
            self.f2 = ConvBN(width, hidden, norm=False)
        self.g = ConvBN(hidden, width)
        self.dwconv2 = ConvBN(width, width, kernel, groups=width, norm=False)
        self.act = getattr(nn, NETWORK["activation"])()
        self.operation, self.activated, self.branches = operation, activated, branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same shape."""
        y = self.dwconv(x)
        one = self.f1(y)
        two = self.f2(y) if self.branches == "both" else y if self.branches == "one" else one
        if self.activated in ("one", "both"):
            one = self.act(one)
        if self.activated == "both":
            two = self.act(two)
        one = self.g(one) if self.branches == "one" else one
        met = JOINED[self.operation](one, two)
        met = self.act(met) if self.activated == "post" else met
        out: torch.Tensor = x + self.dwconv2(met if self.branches == "one" else self.g(met))
        return out


class Network(nn.Module):
    """The network of the table above, untrained."""

    def __init__(self) -> None:
        super().__init__()
        channels, classes = NETWORK["stem_width"], NETWORK["num_classes"]
        stem = ConvBN(NETWORK["in_channels"], channels, 3, NETWORK["stem_stride"])
        self.stem = nn.Sequential(stem, getattr(nn, NETWORK["activation"])())
        self.stages = nn.Sequential()
        for width, blocks, *block in NETWORK["stages"]:
            down = ConvBN(channels, width, 3, 2)
            self.stages.append(nn.Sequential(down, *(Block(width, *block) for _ in range(blocks))))
            channels = width
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.head = nn.Linear(channels, classes) if classes else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (batch, channels, height, width) to logits (batch, classes)."""
        logits: torch.Tensor = self.head(self.pool(self.norm(self.stages(self.stem(images)))))
        return logits


def load(folder: Path | str = Path(__file__).parent) -> Network:
    """The network with the weights of `folder`, ready to answer images."""
    network = Network()
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()

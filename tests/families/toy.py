"""A family with an operation of its own, as a file would add it: fields, layers, module, and a row per table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from starsearch.export.onnx import WRITERS
from starsearch.families.family import FAMILIES, Architecture
from starsearch.families.fields import ruled
from starsearch.families.layers import OPS, LayerList, Op
from starsearch.families.network import Network
from starsearch.latency.prediction.terms import QUANTITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyArchitecture(Architecture):
    """Stages of depthwise convolutions, each with a learned scale of its channels (layer scale) and a residual."""

    family: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    module: ClassVar[str] = "tests.families.toy:ToyNetwork"
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {"toy_small": {}, "toy_large": {"width": 24}}

    width: int = ruled(8)
    depths: tuple[int, ...] = ruled((1, 1), per_stage=True, low=0, high=8)
    kernel_size: tuple[int, ...] = ruled((3, 3), per_stage=True, of_blocks=True, odd=True, high=7)

    def add_layers(self, layers: LayerList, *, num_classes: int, stem_stride: int) -> None:
        layers.add("stem", "conv", width=self.width, kernel_size=3, stride=stem_stride, batch_norm=True)
        for stage, depth in enumerate(self.depths):
            layers.add(f"downs.{stage}", "conv", width=self.width, kernel_size=3, stride=2, batch_norm=True)
            for block in range(depth):
                self.add_block(layers, stage, f"stages.{stage}.{block}")
        layers.add("pool", "pool")
        if num_classes:
            layers.add("head", "linear", width=num_classes)

    def add_block(self, layers: LayerList, stage: int, name: str) -> None:
        source = layers.last
        layers.depthwise(f"{name}.depthwise", kernel_size=self.kernel_size[stage])
        scaled = layers.add(f"{name}.scale", "scale")
        layers.add(f"{name}.residual", "residual", inputs=(source, scaled))


SCALE = Op(weights=lambda layer: {"gamma": (layer.out_shape[0],)})


def write_scale(writer: Any, layer: Any) -> None:
    """The row of `WRITERS`."""
    gamma = writer.weights[f"{layer.name}.gamma"].reshape(-1, 1, 1)
    writer.node("Mul", [*layer.inputs, writer.constant(f"{layer.name}.gamma", gamma)], layer.name)


def registered(monkeypatch: Any) -> None:
    """Enter the family, and its operation's row in each table."""
    monkeypatch.setitem(FAMILIES, "toy", "tests.families.toy:ToyArchitecture")
    monkeypatch.setitem(OPS, "scale", SCALE)
    monkeypatch.setitem(WRITERS, "scale", write_scale)
    monkeypatch.setitem(QUANTITIES, "scale", QUANTITIES["star"])


class _ConvNorm(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int, *, norm: bool = True, **options: int) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options))
        if norm:
            self.add_module("bn", nn.BatchNorm2d(outputs))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma.view(-1, 1, 1)


class _Block(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = _ConvNorm(width, width, kernel, norm=False, groups=width)
        self.scale = _Scale(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale(self.depthwise(x))


class ToyNetwork(Network):
    """The module, its state-dict keys beginning with the layers' names."""

    def __init__(self, architecture: ToyArchitecture, num_classes: int, in_chans: int, stem_stride: int, **_: Any):
        super().__init__()
        self.architecture, self.num_classes = architecture, num_classes
        self.in_chans, self.stem_stride = in_chans, stem_stride
        width = architecture.width
        self.stem = _ConvNorm(in_chans, width, 3, stride=stem_stride)
        self.downs = nn.ModuleList(_ConvNorm(width, width, 3, stride=2) for _ in architecture.depths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width, kernel) for _ in range(depth)))
            for depth, kernel in zip(architecture.depths, architecture.kernel_size, strict=True)
        )
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits

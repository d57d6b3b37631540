"""An architecture as a list of layers with shapes: the one place besides the module that knows its structure.

Cost, latency, the ONNX builder and the Core ML builder read this list and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starsearch.errors import ArchitectureError
from starsearch.families.starnet import Architecture

LayerOp = Literal["conv", "activation", "star", "sum", "residual", "norm", "pool", "linear"]
Shape = tuple[int, int, int]  # channels, height, width; (channels, 1, 1) after pooling
INPUT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operation of a network on one image.

    Attributes:
        name: unique; where the layer has weights, the prefix of its keys in the module's state dict
            ("stages.0.1.f1" owns "stages.0.1.f1.conv.weight", "head" owns "head.weight").
        op: "conv" (with bias), "activation", "star" and "sum" (of a block's branches), "residual"
            (sum with the block's input), "norm" (batch norm of its own), "pool" (mean over the map), "linear".
        inputs: the layers it reads, by name; "input" is the image.
        in_shape: of each input, (channels, height, width).
        out_shape: (channels, height, width).
        kernel_size: of a convolution, else 1.
        stride: of a convolution, else 1.
        groups: of a convolution, else 1; equal to the channels where it is depthwise.
        batch_norm: a convolution followed by batch norm ("….bn.weight" …), to be folded for inference.
        act_type: of an activation, else "".
    """

    name: str
    op: LayerOp
    inputs: tuple[str, ...]
    in_shape: Shape
    out_shape: Shape
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    batch_norm: bool = False
    act_type: str = ""


def lower(
    architecture: Architecture,
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    stem_stride: int = 2,
) -> tuple[Layer, ...]:
    """The network's layers in the order of execution; the last one's output is the logits.

    Args:
        architecture: the network.
        resolution: height and width of the image, in pixels.
        num_classes: outputs of the head; 0 leaves the head out, the pooled features are the output.
        in_chans: channels of the image.
        stem_stride: 2 in every published StarNet; 1 for small images.

    Raises:
        ArchitectureError: the resolution is not positive.
    """
    if resolution < 1:
        raise ArchitectureError(f"resolution is at least 1 pixel; got {resolution}.")
    builder = _Builder((in_chans, resolution, resolution))
    builder.conv("stem.0", architecture.stem_width, kernel_size=3, stride=stem_stride)
    builder.activation("stem.1", architecture.act_type)
    for stage, depth in enumerate(architecture.depths):
        builder.conv(f"stages.{stage}.0", architecture.stage_widths[stage], kernel_size=3, stride=2)
        for block in range(depth):
            _lower_block(builder, architecture, stage, f"stages.{stage}.{block + 1}")
    builder.add("norm", "norm", builder.shape)
    builder.add("pool", "pool", (builder.shape[0], 1, 1))
    if num_classes:
        builder.add("head", "linear", (num_classes, 1, 1))
    return tuple(builder.layers)


def _lower_block(builder: _Builder, architecture: Architecture, stage: int, name: str) -> None:
    """A block: depthwise → two branches → star or sum → projection → depthwise → + input (paper, figure 3)."""
    placement = architecture.activation[stage]
    kernel_size, hidden = architecture.kernel_size[stage], architecture.hidden_width(stage)
    width, block_input = architecture.stage_widths[stage], builder.last
    builder.depthwise(f"{name}.dwconv", kernel_size=kernel_size, batch_norm=True)
    mixed = builder.last
    branches = []
    for branch, active in (("f1", placement in ("one", "both")), ("f2", placement == "both")):
        builder.conv(f"{name}.{branch}", hidden, source=mixed, batch_norm=False)
        if active:
            builder.activation(f"{name}.{branch}.act", architecture.act_type)
        branches.append(builder.last)
    op: LayerOp = "star" if architecture.ops[stage] == "star" else "sum"
    builder.add(f"{name}.{op}", op, builder.shape, inputs=tuple(branches))
    if placement == "post":
        builder.activation(f"{name}.act", architecture.act_type)
    builder.conv(f"{name}.g", width)
    builder.depthwise(f"{name}.dwconv2", kernel_size=kernel_size, batch_norm=False)
    builder.add(f"{name}.residual", "residual", builder.shape, inputs=(block_input, builder.last))


class _Builder:
    """Appends layers, following the shape of the last one."""

    def __init__(self, image: Shape) -> None:
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {INPUT: image}
        self.last = INPUT

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    def conv(
        self,
        name: str,
        width: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        batch_norm: bool = True,
        source: str | None = None,
    ) -> None:
        source = self.last if source is None else source
        _, height, breadth = self.shapes[source]
        padding = kernel_size // 2
        out_height, out_breadth = ((size + 2 * padding - kernel_size) // stride + 1 for size in (height, breadth))
        self._append(
            Layer(
                name=name,
                op="conv",
                inputs=(source,),
                in_shape=self.shapes[source],
                out_shape=(width, out_height, out_breadth),
                kernel_size=kernel_size,
                stride=stride,
                groups=groups,
                batch_norm=batch_norm,
            )
        )

    def depthwise(self, name: str, *, kernel_size: int, batch_norm: bool) -> None:
        channels = self.shape[0]
        self.conv(name, channels, kernel_size=kernel_size, groups=channels, batch_norm=batch_norm)

    def activation(self, name: str, act_type: str) -> None:
        self._append(
            Layer(
                name=name,
                op="activation",
                inputs=(self.last,),
                in_shape=self.shape,
                out_shape=self.shape,
                act_type=act_type,
            )
        )

    def add(self, name: str, op: LayerOp, out_shape: Shape, *, inputs: tuple[str, ...] = ()) -> None:
        self._append(Layer(name=name, op=op, inputs=inputs or (self.last,), in_shape=self.shape, out_shape=out_shape))

    def _append(self, layer: Layer) -> None:
        self.layers.append(layer)
        self.shapes[layer.name] = layer.out_shape
        self.last = layer.name

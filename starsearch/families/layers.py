"""A network as a list of layers with shapes, and the table of what a layer may compute.

Cost, latency, padding and the ONNX builder read such a list and nothing else. A new operation is a row of `OPS`, one
of `starsearch.export.onnx.WRITERS` and one of `starsearch.latency.prediction.terms.QUANTITIES`; a new activation
function is a row of `ACTIVATION_FUNCTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from starsearch.errors import ArchitectureError

Shape = tuple[int, int, int]  # channels, height, width; (channels, 1, 1) after pooling
INPUT = "input"
LAYER_NORM_EPSILON = 1e-5  # torch.nn.LayerNorm's default
# What joins two branches: their product, sum or larger one, or the first gated by the second, x1 · sigmoid(x2).
BRANCH_OPS = ("star", "sum", "max", "gate")
ACTIVATION_PLACEMENTS = ("none", "one", "both", "post")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operation of a network on one image."""

    # unique; where the layer has weights, the prefix of its keys in the module's state dict ("stages.0.1.f1" owns
    # "stages.0.1.f1.conv.weight", "head" owns "head.weight")
    name: str
    op: str  # a row of `OPS`
    inputs: tuple[str, ...]  # the names of the layers it reads; "input" is the image
    in_shape: Shape  # (channels, height, width) of each input
    out_shape: Shape  # (channels, height, width)
    kernel_size: int = 1  # of a convolution, like the next two; else 1
    stride: int = 1
    groups: int = 1  # as many as channels in a depthwise convolution
    batch_norm: bool = False  # a batch norm ("….bn.weight" …) follows the convolution, to be folded for inference
    act_type: str = ""  # an activation's function, a row of `ACTIVATION_FUNCTIONS`; else ""

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is convolved alone; of a single channel this cannot be told from a dense one."""
        return self.groups > 1 and self.groups == self.in_shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """What one operation does to shapes, and what it costs."""

    # the output's shape, from the input's, the channels asked for, kernel size and stride
    shape: Callable[[Shape, int, int, int], Shape] = lambda in_shape, *_: in_shape
    # shapes of a layer's floating-point state-dict entries, by their key behind the layer's name
    weights: Callable[[Layer], Mapping[str, tuple[int, ...]]] = lambda _: {}
    macs: Callable[[Layer], int] = lambda _: 0  # multiply-accumulates of one image
    own_width: bool = False  # the output's channels are a choice, not the input's
    # channels that are zero stay zero and change no other channel, so that channels can be padded
    zero_preserving: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation function without learned parameters."""

    torch: str  # the name of its class in `torch.nn`
    # its nodes in order, each the operator and its inputs: "x" is the function's input, "-" the node before, a
    # number a constant. A mapping at the end holds attributes
    onnx: tuple[tuple[Any, ...], ...]
    zero_at_zero: bool = True  # it maps zero to zero, so that channels can be padded


ACTIVATION_FUNCTIONS: dict[str, Activation] = {
    "relu6": Activation(torch="ReLU6", onnx=(("Clip", "x", 0.0, 6.0),)),
    "relu": Activation(torch="ReLU", onnx=(("Relu", "x"),)),
    # x · (1 + erf(x / √2)) / 2, in the form that ONNX Runtime fuses.
    "gelu": Activation(
        torch="GELU",
        onnx=(("Div", "x", 2.0**0.5), ("Erf", "-"), ("Add", "-", 1.0), ("Mul", "x", "-"), ("Mul", "-", 0.5)),
    ),
    "silu": Activation(torch="SiLU", onnx=(("Sigmoid", "x"), ("Mul", "x", "-"))),
    "hard_swish": Activation(torch="Hardswish", onnx=(("HardSwish", "x"),)),
    "leaky_relu": Activation(torch="LeakyReLU", onnx=(("LeakyRelu", "x", {"alpha": 0.01}),)),
}


def _conv_shape(in_shape: Shape, width: int, kernel_size: int, stride: int) -> Shape:
    _, height, breadth = in_shape
    border = 2 * (kernel_size // 2) - kernel_size
    return (width, (height + border) // stride + 1, (breadth + border) // stride + 1)


def _patches_shape(in_shape: Shape, width: int, kernel_size: int, stride: int) -> Shape:
    _, height, breadth = in_shape
    return (width, (height - kernel_size) // stride + 1, (breadth - kernel_size) // stride + 1)


def _conv_weights(layer: Layer) -> dict[str, tuple[int, ...]]:
    channels = layer.out_shape[0]
    kernel = (channels, layer.in_shape[0] // layer.groups, layer.kernel_size, layer.kernel_size)
    norm = {f"bn.{key}": shape for key, shape in _norm_weights(layer).items()} if layer.batch_norm else {}
    return {"conv.weight": kernel, "conv.bias": (channels,), **norm}


def _norm_weights(layer: Layer) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (layer.out_shape[0],))


def _linear_weights(layer: Layer) -> dict[str, tuple[int, ...]]:
    return {"weight": (layer.out_shape[0], layer.in_shape[0]), "bias": (layer.out_shape[0],)}


def _product_macs(layer: Layer) -> int:
    return prod(layer.out_shape) * (layer.in_shape[0] // layer.groups) * layer.kernel_size**2


OPS: dict[str, Op] = {
    # With a bias; padded so that a map keeps its size at stride 1.
    "conv": Op(shape=_conv_shape, weights=_conv_weights, macs=_product_macs, own_width=True),
    # A convolution without padding, of patches of an image.
    "patches": Op(
        shape=_patches_shape, weights=_conv_weights, macs=_product_macs, own_width=True, zero_preserving=False
    ),
    "activation": Op(),
    # The two branches of a block, joined: `BRANCH_OPS`.
    "star": Op(),
    "sum": Op(),
    "max": Op(),
    "gate": Op(),
    # A block's output added to its input.
    "residual": Op(),
    # A batch norm that follows no convolution.
    "norm": Op(weights=_norm_weights),
    # A norm over the channels of each position: what is padded would count.
    "layer_norm": Op(
        weights=lambda layer: dict.fromkeys(("weight", "bias"), (layer.out_shape[0],)), zero_preserving=False
    ),
    # A learned factor for each channel (layer scale).
    "scale": Op(weights=lambda layer: {"gamma": (layer.out_shape[0],)}),
    # The mean over the map.
    "pool": Op(shape=lambda in_shape, *_: (in_shape[0], 1, 1)),
    "linear": Op(
        shape=lambda _, width, *__: (width, 1, 1), weights=_linear_weights, macs=_product_macs, own_width=True
    ),
}


class LayerList:
    """The layers of a network while it is lowered: each reads the last one's output unless it says otherwise."""

    def __init__(self, image: Shape, *, counts: bool = False) -> None:
        if min(image) < 1:
            raise ArchitectureError(f"resolution is at least 1 pixel; got {min(image[1:])}.")
        self.layers: list[Layer] = []
        self.times: list[int] = []  # how often each layer stands there
        self._counts, self._repeated = counts, 1
        self.last = INPUT
        self._shapes: dict[str, Shape] = {INPUT: image}

    def add(
        self,
        name: str,
        op: str,
        *,
        inputs: tuple[str, ...] = (),
        width: int = 0,
        kernel_size: int = 1,
        stride: int = 1,
        **attributes: Any,
    ) -> str:
        """Append a layer and return its name; `width` is its channels, where the operation has its own."""
        inputs = inputs or (self.last,)
        shape = self._shapes[inputs[0]]
        out_shape = OPS[op].shape(shape, width or shape[0], kernel_size, stride)
        sizes: dict[str, Any] = {
            "in_shape": shape,
            "out_shape": out_shape,
            "kernel_size": kernel_size,
            "stride": stride,
        }
        self.layers.append(Layer(name=name, op=op, inputs=inputs, **sizes, **attributes))
        self.times.append(self._repeated)
        self._shapes[name], self.last = out_shape, name
        return name

    def blocks(self, depth: int) -> Iterator[int]:
        """Yield the numbers of equal blocks, one after the other; only the first where layers are merely counted."""
        if not self._counts:
            yield from range(depth)
        elif depth:
            self._repeated = depth
            yield 0
            self._repeated = 1

    def depthwise(self, name: str, *, kernel_size: int, batch_norm: bool = False) -> str:
        """Append a depthwise convolution and return its name."""
        groups = self._shapes[self.last][0]
        return self.add(name, "conv", groups=groups, kernel_size=kernel_size, batch_norm=batch_norm)

    def branches(
        self,
        block: str,
        source: str,
        *,
        width: int,
        op: str,
        activation: str,
        act_type: str,
        is_shared: bool = False,
    ) -> None:
        """Append the two branches of a block, activated as placed (table 9 of the paper), and their star or sum.

        Where they share their transformation, the one is joined with itself.
        """
        inputs = []
        for branch, active in (("f1", activation in ("one", "both")), ("f2", activation == "both")):
            joined = f"{block}.{'f1' if is_shared else branch}"
            if joined not in self._shapes:
                self.add(joined, "conv", inputs=(source,), width=width)
            if active and f"{joined}.act" not in self._shapes:
                self.add(f"{joined}.act", "activation", inputs=(joined,), act_type=act_type)
            inputs.append(f"{joined}.act" if active else joined)
        self.add(f"{block}.{op}", op, inputs=tuple(inputs))
        if activation == "post":
            self.add(f"{block}.act", "activation", act_type=act_type)


def weight_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a layer's floating-point state-dict entries, by key; empty where it has no weights."""
    return {f"{layer.name}.{key}": shape for key, shape in OPS[layer.op].weights(layer).items()}


def layer_macs(layer: Layer) -> int:
    """Return the multiply-accumulates of one layer."""
    return OPS[layer.op].macs(layer)


def layer_params(layer: Layer) -> int:
    """Return the learned parameters of one layer; a batch norm's running statistics are not among them."""
    weights = OPS[layer.op].weights(layer)
    return sum(prod(shape) for key, shape in weights.items() if "running_" not in key)


def pad_channels(layers: Sequence[Layer], *, multiple: int) -> tuple[Layer, ...]:
    """Return the same network with its channels rounded up to a multiple of `multiple`.

    A runtime that keeps maps in blocks of 8 or 16 channels leaves its fast path where a width is no multiple of the
    block: with zeros in the new places such a network computes more and may still be faster. The image's channels and
    the outputs (classes, or the features of a network without a head) stay; a network with an operation or activation
    that does not keep zeros stays as a whole.
    """
    if multiple < 1:
        raise ValueError(f"Channels are padded to a multiple of at least 1; got {multiple}.")
    if not all(_keeps_zeros(layer) for layer in layers):
        return tuple(layers)
    kept = _output_layers(layers)
    shapes = {INPUT: layers[0].in_shape}
    padded = []
    for layer in layers:
        in_shape, width = shapes[layer.inputs[0]], layer.out_shape[0]
        if _keeps_channels(layer):
            width = in_shape[0]
        elif layer.name not in kept:
            width = -(-width // multiple) * multiple
        wider = replace(layer, in_shape=in_shape, groups=in_shape[0] if layer.is_depthwise else layer.groups)
        padded.append(replace(wider, out_shape=(width, *layer.out_shape[1:])))
        shapes[layer.name] = padded[-1].out_shape
    return tuple(padded)


def _keeps_zeros(layer: Layer) -> bool:
    return OPS[layer.op].zero_preserving and (not layer.act_type or ACTIVATION_FUNCTIONS[layer.act_type].zero_at_zero)


def _keeps_channels(layer: Layer) -> bool:
    return layer.is_depthwise or not OPS[layer.op].own_width


def _output_layers(layers: Sequence[Layer]) -> set[str]:
    """The names of the layers whose channels are the network's outputs."""
    names = {layers[-1].name}
    for layer in reversed(layers):
        if layer.name in names and _keeps_channels(layer):
            names.update(layer.inputs)
    return names

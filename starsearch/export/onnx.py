"""An ONNX graph written directly from the lowering: tens of milliseconds a network, where tracing takes seconds.

Batch norms are folded. The branches f1 and f2 stay two convolutions: merged into one with a Split they leave
ONNX Runtime's blocked layout and run 1.16 times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from starsearch.errors import ExportError
from starsearch.export.folding import fold_conv, fold_head, norm_as_affine
from starsearch.export.protobuf import serialize_model
from starsearch.export.weights import FloatArray, check_weights, weight_shapes
from starsearch.families.layers import Layer

if TYPE_CHECKING:
    from onnx import AttributeProto

INPUT_NAME = "input"
OUTPUT_NAME = "logits"
# Opset 17 runs on every ONNX Runtime from 1.12 (2022) on. Opset 20 would add Gelu as one operator, but the
# runtime fuses what is written here into the same kernel, at the same speed.
OPSET = 17
IR_VERSION = 8

_LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default
_MAX_BYTES = 2**31 - 2**20  # a protobuf message holds 2 GiB; the nodes take less than 1 MiB
_TAIL = ("norm", "pool", "linear")


def build_onnx(
    layers: Sequence[Layer], weights: Mapping[str, FloatArray], *, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The network as a serialised ONNX model in float32, for one image.

    The input "input" is (1, channels, height, width) of the first layer; the output "logits" is (1, classes), or
    the pooled features (1, channels) where the layers have no head.

    Args:
        layers: of `starsearch.families.family.lower`.
        weights: by state-dict key; what no layer owns is ignored.
        metadata: written into the file's metadata properties.

    Raises:
        ExportError: a weight is missing or has another shape than the layers say, or the network is larger
            than the 2 GiB of an ONNX file.
    """
    from onnx import ModelProto, helper

    check_weights(layers, weights)
    _check_size(layers)
    writer = _GraphWriter(weights)
    writer.declare_input(layers[0])
    for layer in layers:
        if layer.op not in _TAIL:
            _WRITERS[layer.op](writer, layer)
    _write_tail(writer, [layer for layer in layers if layer.op in _TAIL])
    writer.declare_output(layers[-1])
    model = ModelProto(ir_version=IR_VERSION, producer_name="starsearch")
    model.opset_import.append(helper.make_opsetid("", OPSET))
    for key, value in sorted((metadata or {}).items()):
        model.metadata_props.add(key=key, value=value)
    return serialize_model(model, writer.graph, writer.initializers)


def with_batch(onnx_bytes: bytes, size: int | str) -> bytes:
    """The same network for `size` images at once; for any number where that is a name."""
    from onnx import load_from_string

    model = load_from_string(onnx_bytes)
    for value in (*model.graph.input, *model.graph.output):
        setattr(value.type.tensor_type.shape.dim[0], "dim_param" if isinstance(size, str) else "dim_value", size)
    del model.graph.value_info[:]  # shapes of the old size
    return bytes(model.SerializeToString())


def _check_size(layers: Sequence[Layer]) -> None:
    shapes = {key: shape for layer in layers for key, shape in weight_shapes(layer).items()}
    size = 4 * sum(map(prod, shapes.values()))
    if size > _MAX_BYTES:
        raise ExportError(f"An ONNX file holds at most 2 GiB; this network's weights take {size / 2**30:.1f} GiB.")


class _GraphWriter:
    """Collects nodes and initializers. A layer's last node, and its output, have the layer's name."""

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        from onnx import GraphProto

        self.weights = weights
        self.graph = GraphProto(name="starnet")
        self.initializers: dict[str, FloatArray] = {}

    def declare_input(self, first: Layer) -> None:
        from onnx import TensorProto, helper

        self.graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, (1, *first.in_shape)))

    def declare_output(self, last: Layer) -> None:
        """Names the last node's output "logits"."""
        from onnx import TensorProto, helper

        self.graph.node[-1].output[0] = OUTPUT_NAME
        shape = (1, last.out_shape[0])
        self.graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, shape))

    def add_initializer(self, name: str, array: FloatArray) -> str:
        """The name of a new float32 constant."""
        self.initializers[name] = array
        return name

    def constant(self, value: float) -> str:
        """The name of a scalar that all nodes share."""
        return self.add_initializer(f"constant_{value:g}", np.asarray(value))

    def add_node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: int | float | list[int]) -> str:
        """The name of a new node's output."""
        # Not helper.make_node: it infers every attribute's type, which takes as long as all the rest of the graph.
        node = self.graph.node.add(op_type=op_type, name=output, input=inputs, output=[output])
        for name, value in attributes.items():
            _set_attribute(node.attribute.add(name=name), value)
        return output


def _set_attribute(attribute: AttributeProto, value: int | float | list[int]) -> None:
    from onnx import AttributeProto

    if isinstance(value, list):
        attribute.type = AttributeProto.INTS
        attribute.ints.extend(value)
    elif isinstance(value, int):
        attribute.type = AttributeProto.INT
        attribute.i = value
    else:
        attribute.type = AttributeProto.FLOAT
        attribute.f = value


def _write_conv(writer: _GraphWriter, layer: Layer) -> None:
    kernel, bias = fold_conv(layer, writer.weights)
    weight_names = [
        writer.add_initializer(f"{layer.name}.weight", kernel),
        writer.add_initializer(f"{layer.name}.bias", bias),
    ]
    writer.add_node(
        "Conv",
        [*layer.inputs, *weight_names],
        layer.name,
        kernel_shape=[layer.kernel_size] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.kernel_size // 2] * 4,
        group=layer.groups,
    )


def _write_activation(writer: _GraphWriter, layer: Layer) -> None:
    _ACTIVATION_WRITERS[layer.act_type](writer, layer.inputs[0], layer.name)


def _write_product(writer: _GraphWriter, layer: Layer) -> None:
    writer.add_node("Mul", layer.inputs, layer.name)


def _write_sum(writer: _GraphWriter, layer: Layer) -> None:
    writer.add_node("Add", layer.inputs, layer.name)


def _write_tail(writer: _GraphWriter, tail: Sequence[Layer]) -> None:
    """Pooling first, then head and norm as one; without a head the norm works on the pooled features."""
    norm, pool, *heads = tail
    pooled = writer.add_node("GlobalAveragePool", norm.inputs, f"{pool.name}.map")
    features = writer.add_node("Flatten", [pooled], pool.name, axis=1)
    for head in heads:
        weight, bias = fold_head(norm, head, writer.weights)
        names = [writer.add_initializer("head.weight", weight), writer.add_initializer("head.bias", bias)]
        writer.add_node("Gemm", [features, *names], head.name, transB=1)
    if not heads:
        scale, shift = norm_as_affine(norm.name, writer.weights)
        scaled = writer.add_node("Mul", [features, writer.add_initializer("norm.scale", scale)], f"{norm.name}.scaled")
        writer.add_node("Add", [scaled, writer.add_initializer("norm.shift", shift)], norm.name)


_WRITERS: dict[str, Callable[[_GraphWriter, Layer], None]] = {
    "conv": _write_conv,
    "activation": _write_activation,
    "star": _write_product,
    "sum": _write_sum,
    "residual": _write_sum,
}


def _write_relu6(writer: _GraphWriter, source: str, output: str) -> None:
    writer.add_node("Clip", [source, writer.constant(0.0), writer.constant(6.0)], output)


def _write_relu(writer: _GraphWriter, source: str, output: str) -> None:
    writer.add_node("Relu", [source], output)


def _write_gelu(writer: _GraphWriter, source: str, output: str) -> None:
    """x · (1 + erf(x / √2)) / 2, in the form that ONNX Runtime fuses."""
    divided = writer.add_node("Div", [source, writer.constant(2.0**0.5)], f"{output}.divided")
    erf = writer.add_node("Erf", [divided], f"{output}.erf")
    plus_one = writer.add_node("Add", [erf, writer.constant(1.0)], f"{output}.plus_one")
    doubled = writer.add_node("Mul", [source, plus_one], f"{output}.doubled")
    writer.add_node("Mul", [doubled, writer.constant(0.5)], output)


def _write_silu(writer: _GraphWriter, source: str, output: str) -> None:
    sigmoid = writer.add_node("Sigmoid", [source], f"{output}.sigmoid")
    writer.add_node("Mul", [source, sigmoid], output)


def _write_hard_swish(writer: _GraphWriter, source: str, output: str) -> None:
    writer.add_node("HardSwish", [source], output)


def _write_leaky_relu(writer: _GraphWriter, source: str, output: str) -> None:
    writer.add_node("LeakyRelu", [source], output, alpha=_LEAKY_SLOPE)


_ACTIVATION_WRITERS: dict[str, Callable[[_GraphWriter, str, str], None]] = {
    "relu6": _write_relu6,
    "relu": _write_relu,
    "gelu": _write_gelu,
    "silu": _write_silu,
    "hard_swish": _write_hard_swish,
    "leaky_relu": _write_leaky_relu,
}

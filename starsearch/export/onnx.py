"""An ONNX graph written directly from the lowering: tens of milliseconds a network, where tracing takes seconds.

Batch norms are folded. The branches f1 and f2 stay two convolutions: merged into one with a Split they leave
ONNX Runtime's blocked layout and run 1.16 times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, load_from_string, numpy_helper

from starsearch.export.weights import FloatArray, Weights, check_weights, fold_conv, fold_head, norm_as_affine
from starsearch.families.layers import ACTIVATION_FUNCTIONS, LAYER_NORM_EPSILON, Layer, weight_shapes

INPUT_NAME = "input"
OUTPUT_NAME = "logits"
# Opset 17 runs on every ONNX Runtime from 1.12 (2022) on. Opset 20 would add Gelu as one operator, but the
# runtime fuses what is written here into the same kernel, at the same speed.
OPSET = 17
IR_VERSION = 8


def build_onnx(layers: Sequence[Layer], weights: Weights, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the network as a serialised ONNX model in float32, for one image.

    The input "input" is (1, channels, height, width) of the first layer; the output "logits" is (1, classes), or
    the pooled features (1, channels) where the layers have no head.
    Weights are given by state-dict key; what no layer owns is ignored.
    """
    check_weights(layers, weights)
    writer = _GraphWriter(weights)
    for layer in layers:
        WRITERS[layer.op](writer, layer)
    writer.finish()
    graph = helper.make_graph(
        writer.nodes,
        "starsearch",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, (1, *layers[0].in_shape))],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, (1, layers[-1].out_shape[0]))],
        list(writer.initializers.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="starsearch", ir_version=IR_VERSION, opset_imports=opsets)
    helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    return bytes(model.SerializeToString())


def with_batch(onnx_bytes: bytes, size: int | str) -> bytes:
    """Return the same network for `size` images at once; for any number where that is a name."""
    model = load_from_string(onnx_bytes)
    for value in (*model.graph.input, *model.graph.output):
        setattr(value.type.tensor_type.shape.dim[0], "dim_param" if isinstance(size, str) else "dim_value", size)
    del model.graph.value_info[:]  # shapes of the old size
    return bytes(model.SerializeToString())


class _GraphWriter:
    """Collects nodes and initializers. A layer's last node, and its output, have the layer's name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.norm: Layer | None = None  # written after the pooling: the mean over the map commutes with it

    def constant(self, name: str, array: FloatArray | float) -> str:
        """Add a float32 constant under its name."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, np.float32), name)
        return name

    def scalar(self, value: float) -> str:
        """Add a number that all nodes share."""
        name = f"constant_{value:g}"
        return name if name in self.initializers else self.constant(name, value)

    def node(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def is_flat(self, output: str) -> bool:
        """Whether it is (1, channels), behind a pooling."""
        return any(node.op_type == "Flatten" and node.output[0] == output for node in self.nodes)

    def finish(self) -> None:
        """Write a norm that no head has taken, and name the last node's output "logits"."""
        if self.norm is not None:
            (features,) = self.nodes[-1].output
            name, (scale, shift) = self.norm.name, norm_as_affine(self.norm.name, self.weights)
            scaled = self.node("Mul", [features, self.constant(f"{name}.scale", scale)], f"{name}.scaled")
            self.node("Add", [scaled, self.constant(f"{name}.shift", shift)], name)
        self.nodes[-1].output[0] = OUTPUT_NAME


def _write_conv(writer: _GraphWriter, layer: Layer) -> None:
    kernel, bias = fold_conv(layer, writer.weights)
    writer.node(
        "Conv",
        [*layer.inputs, writer.constant(f"{layer.name}.weight", kernel), writer.constant(f"{layer.name}.bias", bias)],
        layer.name,
        kernel_shape=[layer.kernel_size] * 2,
        strides=[layer.stride] * 2,
        pads=[0 if layer.op == "patches" else layer.kernel_size // 2] * 4,
        group=layer.groups,
    )


def _write_activation(writer: _GraphWriter, layer: Layer) -> None:
    (source,) = layer.inputs
    nodes, previous = ACTIVATION_FUNCTIONS[layer.act_type].onnx, source
    for number, (op_type, *operands) in enumerate(nodes, start=1):
        attributes = operands.pop() if isinstance(operands[-1], dict) else {}
        inputs = [{"x": source, "-": previous}.get(one) or writer.scalar(one) for one in operands]
        output = layer.name if number == len(nodes) else f"{layer.name}.{number}"
        previous = writer.node(op_type, inputs, output, **attributes)


def _write_layer_norm(writer: _GraphWriter, layer: Layer) -> None:
    """Write a norm over the channels, which ONNX knows of the last axis only."""
    weights = [writer.constant(key, writer.weights[key]) for key in weight_shapes(layer)]
    if layer.in_shape[1:] == (1, 1) and writer.is_flat(layer.inputs[0]):
        writer.node("LayerNormalization", [*layer.inputs, *weights], layer.name, epsilon=LAYER_NORM_EPSILON)
        return
    last = writer.node("Transpose", layer.inputs, f"{layer.name}.last", perm=[0, 2, 3, 1])
    normed = writer.node("LayerNormalization", [last, *weights], f"{layer.name}.normed", epsilon=LAYER_NORM_EPSILON)
    writer.node("Transpose", [normed], layer.name, perm=[0, 3, 1, 2])


def _write_gate(writer: _GraphWriter, layer: Layer) -> None:
    branch, gating = layer.inputs
    writer.node("Mul", [branch, writer.node("Sigmoid", [gating], f"{layer.name}.gate")], layer.name)


def _write_scale(writer: _GraphWriter, layer: Layer) -> None:
    gamma = writer.weights[f"{layer.name}.gamma"].reshape(-1, 1, 1)
    writer.node("Mul", [*layer.inputs, writer.constant(f"{layer.name}.gamma", gamma)], layer.name)


def _keep_norm(writer: _GraphWriter, layer: Layer) -> None:
    writer.norm = layer


def _write_pool(writer: _GraphWriter, layer: Layer) -> None:
    inputs = layer.inputs if writer.norm is None else writer.norm.inputs
    pooled = writer.node("GlobalAveragePool", inputs, f"{layer.name}.map")
    writer.node("Flatten", [pooled], layer.name, axis=1)


def _write_linear(writer: _GraphWriter, layer: Layer) -> None:
    """Write the head, and in it the norm before the pooling."""
    if writer.norm is None:
        weight, bias = writer.weights[f"{layer.name}.weight"], writer.weights[f"{layer.name}.bias"]
    else:
        weight, bias = fold_head(writer.norm.name, layer.name, writer.weights)
        writer.norm = None
    names = [writer.constant(f"{layer.name}.weight", weight), writer.constant(f"{layer.name}.bias", bias)]
    writer.node("Gemm", [*layer.inputs, *names], layer.name, transB=1)


# One row per operation of the lowering.
WRITERS: dict[str, Callable[[_GraphWriter, Layer], object]] = {
    "conv": _write_conv,
    "patches": _write_conv,
    "activation": _write_activation,
    "star": lambda writer, layer: writer.node("Mul", layer.inputs, layer.name),
    "sum": lambda writer, layer: writer.node("Add", layer.inputs, layer.name),
    "max": lambda writer, layer: writer.node("Max", layer.inputs, layer.name),
    "gate": _write_gate,
    "residual": lambda writer, layer: writer.node("Add", layer.inputs, layer.name),
    "norm": _keep_norm,
    "layer_norm": _write_layer_norm,
    "scale": _write_scale,
    "pool": _write_pool,
    "linear": _write_linear,
}

"""The operations of a Core ML program, as the lowering gives them.

The builder writes this list and the verification compares a saved package with it. The names of operations and
parameters are those of MIL, Core ML's intermediate language, as of iOS 16
(https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.folding import fold_conv, fold_head, norm_as_affine
from starsearch.export.weights import FloatArray, check_weights
from starsearch.families.layers import INPUT, Layer

Precision = Literal["fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")

IMAGE_NAME = "image"
LOGITS_NAME = "logits"
PROBABILITIES_NAME = "probabilities"
COLOUR_SPACES = {1: "GRAYSCALE", 3: "RGB"}  # by channels: the images that Core ML knows

_LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default
MAX_PIXEL = 255.0
MAX_HALF = 65504  # the largest number of half precision
_NUMPY_TYPES = {"fp16": np.float16, "fp32": np.float32}

# A weight, a list of integers, a number, a switch or a word.
Constant = NDArray[Any] | np.floating[Any] | float | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the program; its output has its name.

    Attributes:
        name: unique, made of letters, digits and underscores, as Core ML's compiler wants it.
        type: MIL's name of it ("conv", "mul", "relu6" …).
        inputs: by parameter, the operations it reads; `IMAGE_NAME` is the image.
        constants: by parameter, weights and settings.
        shape: of the output.
        precision: of the output.
    """

    name: str
    type: str
    inputs: Mapping[str, str]
    constants: Mapping[str, Constant]
    shape: tuple[int, ...]
    precision: Precision


def plan_program(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    *,
    precision: Precision,
    preprocessing: Preprocessing,
    with_probabilities: bool = False,
) -> tuple[Operation, ...]:
    """The operations from an image of pixels 0..255, (1, channels, height, width) in float32, to the output.

    The last one is "logits", (1, classes), or the pooled features where the layers have no head; with
    `with_probabilities` it is their softmax, "probabilities". The output is float32 in either precision, since that
    is what an app reads. Batch norms are folded; the branches f1 and f2 stay two convolutions.

    Args:
        layers: of `starsearch.families.family.lower`.
        weights: by state-dict key; what no layer owns is ignored.
        precision: of weights and activations.
        preprocessing: whose mean and std normalise the image, channel by channel.
        with_probabilities: end with a softmax.

    Raises:
        ExportError: a weight is missing, has another shape than the layers say or is beyond half precision, the
            image has neither 1 nor 3 channels, or mean and std are not the image's.
    """
    check_weights(layers, weights)
    plan = _Plan(layers[0], weights, precision)
    _plan_image(plan, layers[0], preprocessing)
    for layer in layers:
        if layer.op not in _TAIL:
            _PLANNERS[layer.op](plan, layer)
    _plan_tail(plan, [layer for layer in layers if layer.op in _TAIL], with_probabilities=with_probabilities)
    return tuple(plan.operations)


class _Plan:
    """Collects operations, and knows under which name each layer's output goes."""

    def __init__(self, first: Layer, weights: Mapping[str, FloatArray], precision: Precision) -> None:
        self.weights = weights
        self.precision = precision
        self.operations: list[Operation] = []
        self.outputs = {INPUT: IMAGE_NAME}
        self.image_shape = (1, *first.in_shape)

    def add(
        self,
        name: str,
        op_type: str,
        inputs: Mapping[str, str],
        shape: tuple[int, ...],
        constants: Mapping[str, Constant],
        *,
        precision: Precision | None = None,
    ) -> str:
        """The name of a new operation."""
        rounded = {key: self._rounded(f"{name}'s {key}", value) for key, value in constants.items()}
        self.operations.append(
            Operation(
                name=name,
                type=op_type,
                inputs=inputs,
                constants=rounded,
                shape=shape,
                precision=precision or self.precision,
            )
        )
        return name

    def add_layer(self, layer: Layer, op_type: str, constants: Mapping[str, Constant]) -> None:
        """An operation that computes `layer` from its one or two inputs, MIL's parameters x and y."""
        sources = {key: self.outputs[source] for key, source in zip("xy", layer.inputs, strict=False)}
        shape = (1, *layer.out_shape)
        self.outputs[layer.name] = self.add(identifier(layer.name), op_type, sources, shape, constants)

    def _rounded(self, what: str, value: Constant) -> Constant:
        """Floating-point numbers in the program's precision, everything else as it is."""
        if not isinstance(value, float | np.ndarray) or not np.issubdtype(np.asarray(value).dtype, np.floating):
            return value
        with np.errstate(over="ignore"):
            rounded = np.asarray(value, _NUMPY_TYPES[self.precision])
        if np.isfinite(rounded).all():
            return rounded if rounded.ndim else rounded[()]
        if np.isfinite(value).all():
            raise ExportError(
                f"{what} reaches {np.abs(value).max():.3g}; half precision ends at {MAX_HALF}. "
                "Export with precision 'fp32'."
            )
        raise ExportError(f"{what} holds numbers that are not finite: the training diverged. Export another network.")


def identifier(layer_name: str) -> str:
    """A layer's name as MIL allows it: "stages.0.1.f1" becomes "stages_0_1_f1"."""
    return layer_name.replace(".", "_")


def _plan_image(plan: _Plan, first: Layer, preprocessing: Preprocessing) -> None:
    """(pixel − 255 · mean) / (255 · std), as two operations.

    Core ML's own image scale is one number for all channels. Folded into the stem the mean would be wrong at the
    border, whose padding is a zero of the normalised image; and the std, below 1/50, would push half-precision
    weights into the subnormal numbers. The mean goes first, while the pixels are still whole numbers.
    """
    channels, shape = first.in_shape[0], plan.image_shape
    mean, std = (_per_channel(values, channels) * MAX_PIXEL for values in (preprocessing.mean, preprocessing.std))
    image = IMAGE_NAME
    if plan.precision == "fp16":
        image = plan.add("image_in_half_precision", "cast", {"x": image}, shape, {"dtype": "fp16"})
    centred = plan.add("image_centred", "sub", {"x": image}, shape, {"y": mean})
    plan.outputs[INPUT] = plan.add("image_normalised", "mul", {"x": centred}, shape, {"y": 1.0 / std})


def _per_channel(values: Sequence[float], channels: int) -> NDArray[np.float64]:
    if channels not in COLOUR_SPACES:
        raise ExportError(f"A Core ML image is grey (1 channel) or RGB (3); this network reads {channels} channels.")
    if len(values) != channels:
        raise ExportError(f"The network reads {channels} channels; the preprocessing has {len(values)}.")
    return np.asarray(values, np.float64).reshape(1, channels, 1, 1)


def _plan_conv(plan: _Plan, layer: Layer) -> None:
    kernel, bias = fold_conv(layer, plan.weights)
    constants: dict[str, Constant] = {
        "weight": kernel,
        "bias": bias,
        "strides": _integers([layer.stride] * 2),
        "pad_type": "custom",
        "pad": _integers([layer.kernel_size // 2] * 4),
        "dilations": _integers([1, 1]),
        "groups": layer.groups,
    }
    plan.add_layer(layer, "conv", constants)


def _plan_product(plan: _Plan, layer: Layer) -> None:
    plan.add_layer(layer, "mul", {})


def _plan_sum(plan: _Plan, layer: Layer) -> None:
    plan.add_layer(layer, "add", {})


def _plan_activation(plan: _Plan, layer: Layer) -> None:
    if layer.act_type == "hard_swish":
        _plan_hard_swish(plan, layer)
        return
    op_type, constants = _ACTIVATIONS[layer.act_type]
    plan.add_layer(layer, op_type, constants)


def _plan_hard_swish(plan: _Plan, layer: Layer) -> None:
    """x · min(max(x / 6 + 1/2, 0), 1): MIL has the gate, not the whole."""
    source, name, shape = plan.outputs[layer.inputs[0]], identifier(layer.name), (1, *layer.out_shape)
    gate = plan.add(f"{name}_gate", "sigmoid_hard", {"x": source}, shape, {"alpha": 1.0 / 6.0, "beta": 0.5})
    plan.outputs[layer.name] = plan.add(name, "mul", {"x": source, "y": gate}, shape, {})


def _plan_tail(plan: _Plan, tail: Sequence[Layer], *, with_probabilities: bool) -> None:
    """Pooling first, then head and norm as one; without a head the norm works on the pooled features."""
    norm, pool, *heads = tail
    half = plan.precision == "fp16"
    shape = (1, pool.out_shape[0])
    settings: dict[str, Constant] = {"axes": _integers([2, 3]), "keep_dims": False}
    last = plan.add("pool", "reduce_mean", {"x": plan.outputs[norm.inputs[0]]}, shape, settings)
    logits = "logits_in_half_precision" if half and not with_probabilities else LOGITS_NAME
    if heads:
        weight, bias = fold_head(norm, heads[0], plan.weights)
        shape = (1, heads[0].out_shape[0])
        last = plan.add(logits, "linear", {"x": last}, shape, {"weight": weight, "bias": bias})
    else:
        scale, shift = norm_as_affine(norm.name, plan.weights)
        last = plan.add("norm_scaled", "mul", {"x": last}, shape, {"y": scale[np.newaxis]})
        last = plan.add(logits, "add", {"x": last}, shape, {"y": shift[np.newaxis]})
    if with_probabilities:
        name = "probabilities_in_half_precision" if half else PROBABILITIES_NAME
        last = plan.add(name, "softmax", {"x": last}, shape, {"axis": -1})
    if half:
        name = PROBABILITIES_NAME if with_probabilities else LOGITS_NAME
        plan.add(name, "cast", {"x": last}, shape, {"dtype": "fp32"}, precision="fp32")


def _integers(values: Sequence[int]) -> NDArray[np.int32]:
    return np.asarray(values, np.int32)


_TAIL = ("norm", "pool", "linear")

_PLANNERS: dict[str, Callable[[_Plan, Layer], None]] = {
    "conv": _plan_conv,
    "activation": _plan_activation,
    "star": _plan_product,
    "sum": _plan_sum,
    "residual": _plan_sum,
}

_ACTIVATIONS: dict[str, tuple[str, dict[str, Constant]]] = {
    "relu6": ("relu6", {}),
    "relu": ("relu", {}),
    "gelu": ("gelu", {"mode": "EXACT"}),
    "silu": ("silu", {}),
    "leaky_relu": ("leaky_relu", {"alpha": _LEAKY_SLOPE}),
}

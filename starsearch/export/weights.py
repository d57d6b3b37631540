"""The weights of a network as NumPy arrays under its state-dict keys: drawn, checked, folded and padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import ExportError
from starsearch.families.layers import Layer, weight_shapes

if TYPE_CHECKING:
    from torch import nn

FloatArray = NDArray[np.floating]
Weights = Mapping[str, FloatArray]

BATCH_NORM_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default; the networks set no other
# A residual branch's output relative to the block's input. A star squares magnitudes, so branches that add up to
# the stream's own scale would overflow after a few dozen blocks without activations.
_BRANCH_SCALE = 0.1


def state_dict_arrays(model: nn.Module) -> dict[str, FloatArray]:
    """Return the floating-point entries of the state dict as float32 on the host (no copy where they are that)."""
    return {
        key: tensor.float().cpu().contiguous().numpy()
        for key, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


def check_weights(layers: Sequence[Layer], weights: Weights) -> None:
    """Raise `ExportError` where a weight of the layers is missing or has another shape."""
    for key, shape in (item for layer in layers for item in weight_shapes(layer).items()):
        if key not in weights:
            raise ExportError(f"The architecture has a weight {key!r} of shape {shape}; the weights given lack it.")
        if weights[key].shape != shape:
            raise ExportError(
                f"{key!r} has shape {shape} by the architecture; the weights given have {weights[key].shape}. "
                "Are they another network's?"
            )


def random_weights(layers: Sequence[Layer], rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw weights for measuring the latency of an untrained network, without torch.

    Convolutions and the head keep the scale of their input, batch norms do nothing, and a block adds a tenth of
    its input's scale: activations of a standard normal image stay near 1 at any depth, far from overflow and
    from denormal numbers, which are slow.
    """
    branch_ends = {layer.inputs[1] for layer in layers if layer.op == "residual"}
    return {
        key: _draw(key, shape, _BRANCH_SCALE if layer.name in branch_ends else 1.0, rng)
        for layer in layers
        for key, shape in weight_shapes(layer).items()
    }


def _draw(key: str, shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> FloatArray:
    """Return a kernel at `scale` times its input's scale, or a vector that changes nothing."""
    if len(shape) == 1:
        is_one = key.endswith(("bn.weight", "norm.weight", "running_var"))
        return np.full(shape, 1.0 if is_one else 0.0, np.float32)
    kernel = rng.standard_normal(shape, dtype=np.float32)
    kernel *= np.float32(scale / int(np.prod(shape[1:])) ** 0.5)
    return kernel


def norm_as_affine(name: str, weights: Weights) -> tuple[FloatArray, FloatArray]:
    """Return scale and shift (channels,) in float64, so that norm(x) = scale · x + shift in evaluation."""
    weight, bias, mean, variance = (
        weights[f"{name}.{entry}"].astype(np.float64) for entry in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + BATCH_NORM_EPSILON)
    return scale, bias - mean * scale


def fold_conv(layer: Layer, weights: Weights) -> tuple[FloatArray, FloatArray]:
    """Return kernel and bias of a convolution with the batch norm that follows it, if one does."""
    kernel, bias = weights[f"{layer.name}.conv.weight"], weights[f"{layer.name}.conv.bias"]
    if not layer.batch_norm:
        return kernel, bias
    scale, shift = norm_as_affine(f"{layer.name}.bn", weights)
    return _scaled(kernel, scale[:, None, None, None]), (bias * scale + shift).astype(np.float32)


def fold_head(norm: str, head: str, weights: Weights) -> tuple[FloatArray, FloatArray]:
    """Return weight and bias of the head with the norm before the pooling: the mean over the map commutes with it."""
    weight, bias = weights[f"{head}.weight"], weights[f"{head}.bias"]
    scale, shift = norm_as_affine(norm, weights)
    return _scaled(weight, scale), (bias + weight.astype(np.float64) @ shift).astype(np.float32)


def _scaled(array: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the product, computed in float64 and rounded once, without a float64 copy of `array`."""
    out = np.empty(array.shape, np.float32)
    return np.multiply(array, scale, out=out, dtype=np.float64, casting="same_kind")


def pad_weights(layers: Sequence[Layer], padded_layers: Sequence[Layer], weights: Weights) -> dict[str, FloatArray]:
    """Return weights with which `padded_layers` computes what `layers` computes with `weights`.

    A new channel is exactly zero wherever it appears: its kernels and biases are zero, its batch norms have scale and
    shift zero and variance one, every activation function maps zero to zero, so do stars and sums, and nothing reads
    it with another weight than zero. What remains is rounding: a runtime may add in another order.
    """
    padded: dict[str, FloatArray] = {}
    for layer, padded_layer in zip(layers, padded_layers, strict=True):
        shapes = weight_shapes(padded_layer)
        padded |= {key: _pad(key, weights[key], shapes[key]) for key in weight_shapes(layer)}
    return padded


def _pad(key: str, array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return `array` in the first corner of one that is zero elsewhere; a variance is one there."""
    if array.shape == shape:
        return array
    padded = np.full(shape, 1.0 if key.endswith("running_var") else 0.0, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded

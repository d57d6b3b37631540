"""The weights of a network whose channels were rounded up: zeros in the new places, the same logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from starsearch.export.weights import FloatArray, weight_shapes
from starsearch.families.layers import Layer


def pad_weights(
    layers: Sequence[Layer], padded_layers: Sequence[Layer], weights: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Weights with which `padded_layers` computes what `layers` computes with `weights`.

    A new channel is exactly zero wherever it appears: its kernels and biases are zero, its batch norms have scale and
    shift zero and variance one, every activation function maps zero to zero, so do stars and sums, and nothing reads
    it with another weight than zero. What remains is rounding: a runtime may add in another order.

    Args:
        layers: the network as it was trained.
        padded_layers: of `pad_channels`.
        weights: by state-dict key; what no layer owns is left out.
    """
    padded: dict[str, FloatArray] = {}
    for layer, padded_layer in zip(layers, padded_layers, strict=True):
        shapes = weight_shapes(padded_layer)
        padded |= {key: _pad(key, weights[key], shapes[key]) for key in weight_shapes(layer)}
    return padded


def _pad(key: str, array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """`array` in the first corner of one that is zero elsewhere; a variance is one there."""
    if array.shape == shape:
        return array
    padded = np.full(shape, 1.0 if key.endswith("running_var") else 0.0, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded

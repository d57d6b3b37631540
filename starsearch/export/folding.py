"""Batch norms folded into the layers around them, in float64; the results are float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from starsearch.export.weights import FloatArray
from starsearch.families.layers import Layer

BATCH_NORM_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default; the networks set no other


def norm_as_affine(name: str, weights: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Scale and shift (channels,) in float64, with norm(x) = scale · x + shift in evaluation."""
    weight, bias, mean, variance = (
        weights[f"{name}.{entry}"].astype(np.float64) for entry in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + BATCH_NORM_EPSILON)
    return scale, bias - mean * scale


def fold_conv(layer: Layer, weights: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Kernel and bias of a convolution with the batch norm that follows it, if one does."""
    kernel, bias = weights[f"{layer.name}.conv.weight"], weights[f"{layer.name}.conv.bias"]
    if not layer.batch_norm:
        return kernel, bias
    scale, shift = norm_as_affine(f"{layer.name}.bn", weights)
    return _scaled(kernel, scale[:, None, None, None]), (bias * scale + shift).astype(np.float32)


def fold_head(norm: Layer, head: Layer, weights: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Weight and bias of the head with the norm before the pooling, since the mean over the map commutes with it."""
    weight, bias = weights[f"{head.name}.weight"], weights[f"{head.name}.bias"]
    scale, shift = norm_as_affine(norm.name, weights)
    return _scaled(weight, scale), (bias + weight.astype(np.float64) @ shift).astype(np.float32)


def _scaled(array: FloatArray, scale: FloatArray) -> FloatArray:
    """The product, computed in float64 and rounded once, without a float64 copy of `array`."""
    out = np.empty(array.shape, np.float32)
    return np.multiply(array, scale, out=out, dtype=np.float64, casting="same_kind")

"""Multiply-accumulates and parameters, counted on the lowering."""

from __future__ import annotations

from math import prod
from typing import Literal

from starsearch.families.layers import Layer, lower
from starsearch.families.starnet import Architecture

Convention = Literal["conv+linear", "fvcore"]


def count_macs(
    architecture: Architecture,
    *,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    stem_stride: int = 2,
    convention: Convention = "conv+linear",
) -> int:
    """Multiply-accumulates of one image.

    "conv+linear" counts convolutions and the head. "fvcore" is the paper's convention (what
    `fvcore.nn.FlopCountAnalysis` prints): batch norms and the pooling are added, one a read element
    and a multiply-add as one.
    """
    layers = lower(
        architecture, resolution=resolution, num_classes=num_classes, in_chans=in_chans, stem_stride=stem_stride
    )
    total = sum(layer_macs(layer) for layer in layers)
    if convention == "fvcore":
        total += sum(_fvcore_extra(layer) for layer in layers)
    return total


def count_params(architecture: Architecture, *, num_classes: int = 1000, in_chans: int = 3) -> int:
    """Learned parameters (batch norms' running statistics are not)."""
    return sum(layer_params(layer) for layer in lower(architecture, num_classes=num_classes, in_chans=in_chans))


def layer_macs(layer: Layer) -> int:
    """Multiply-accumulates of one layer: those of convolutions and the head, else 0."""
    if layer.op not in ("conv", "linear"):
        return 0
    return prod(layer.out_shape) * (layer.in_shape[0] // layer.groups) * layer.kernel_size**2


def layer_params(layer: Layer) -> int:
    """Learned parameters of one layer, its batch norm's included."""
    out_channels = layer.out_shape[0]
    if layer.op == "norm":
        return 2 * out_channels
    if layer.op not in ("conv", "linear"):
        return 0
    weights = out_channels * (layer.in_shape[0] // layer.groups) * layer.kernel_size**2
    return weights + out_channels + (2 * out_channels if layer.batch_norm else 0)


def _fvcore_extra(layer: Layer) -> int:
    if layer.op == "norm":
        return 2 * prod(layer.out_shape)
    if layer.op == "pool":
        return prod(layer.in_shape)
    return 2 * prod(layer.out_shape) if layer.batch_norm else 0

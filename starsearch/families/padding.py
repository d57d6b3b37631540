"""Channels rounded up to what a processor's vector instructions take at once.

A runtime that keeps maps in blocks of 8 or 16 channels leaves its fast path where a width is no multiple of the
block: rounded up, with zeros in the new places, such a network computes more and may still be faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starsearch.families.layers import INPUT, Layer

# Their output has the channels of their input; a depthwise convolution's does, too.
_KEEPS_CHANNELS = ("activation", "star", "sum", "residual", "norm", "pool")


def pad_channels(layers: Sequence[Layer], *, multiple: int) -> tuple[Layer, ...]:
    """The same lowering with stem, width and hidden channels rounded up to a multiple of `multiple`.

    The image's channels and the classes stay. Without a head the features are the output, so the last stage's width
    stays as well. A depthwise convolution of a single channel cannot be told from a dense one and becomes dense.

    Args:
        layers: of `lower`.
        multiple: at least 1; 1 changes nothing.

    Raises:
        ValueError: `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"Channels are padded to a multiple of at least 1; got {multiple}.")
    kept = _layers_with_output_channels(layers)
    channels = {INPUT: layers[0].in_shape[0]}
    padded = []
    for layer in layers:
        in_channels, out_channels = channels[layer.inputs[0]], layer.out_shape[0]
        if _keeps_channels(layer):
            out_channels = in_channels
        elif layer.op == "conv" and layer.name not in kept:
            out_channels = -(-out_channels // multiple) * multiple
        channels[layer.name] = out_channels
        padded.append(_with_channels(layer, in_channels, out_channels))
    return tuple(padded)


def _layers_with_output_channels(layers: Sequence[Layer]) -> set[str]:
    """Names of the layers whose channels are the network's outputs."""
    names = {layers[-1].name}
    for layer in reversed(layers):
        if layer.name in names and _keeps_channels(layer):
            names.update(layer.inputs)
    return names


def _keeps_channels(layer: Layer) -> bool:
    return layer.op in _KEEPS_CHANNELS or _is_depthwise(layer)


def _is_depthwise(layer: Layer) -> bool:
    return layer.groups > 1 and layer.groups == layer.in_shape[0]


def _with_channels(layer: Layer, in_channels: int, out_channels: int) -> Layer:
    return replace(
        layer,
        in_shape=(in_channels, *layer.in_shape[1:]),
        out_shape=(out_channels, *layer.out_shape[1:]),
        groups=in_channels if _is_depthwise(layer) else layer.groups,
    )

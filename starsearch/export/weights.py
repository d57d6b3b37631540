"""The weights of a network as NumPy arrays, under the keys of the module's state dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import ExportError
from starsearch.families.layers import Layer

if TYPE_CHECKING:
    from torch import nn

FloatArray = NDArray[np.floating]

# Of a residual branch's output to the block's input. A star squares magnitudes, so branches that add up to
# the stream's own scale would overflow after a few dozen blocks without activations.
_BRANCH_SCALE = 0.1


def state_dict_arrays(model: nn.Module) -> dict[str, FloatArray]:
    """The floating-point entries of the state dict, as float32 arrays on the host (no copy where they are that)."""
    return {
        key: tensor.float().cpu().contiguous().numpy()
        for key, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }


def weight_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The shapes of one layer's floating-point state-dict entries, by key; empty where it has no weights."""
    channels, name = layer.out_shape[0], layer.name
    if layer.op == "conv":
        kernel = (channels, layer.in_shape[0] // layer.groups, layer.kernel_size, layer.kernel_size)
        shapes = {f"{name}.conv.weight": kernel, f"{name}.conv.bias": (channels,)}
        return {**shapes, **_norm_shapes(f"{name}.bn", channels)} if layer.batch_norm else shapes
    if layer.op == "norm":
        return _norm_shapes(name, channels)
    if layer.op == "linear":
        return {f"{name}.weight": (channels, layer.in_shape[0]), f"{name}.bias": (channels,)}
    return {}


def check_weights(layers: Sequence[Layer], weights: Mapping[str, FloatArray]) -> None:
    """Pass where `weights` hold all that the layers own; what no layer owns is not looked at.

    Raises:
        ExportError: a weight is missing or has another shape than the layers say.
    """
    shapes = {key: shape for layer in layers for key, shape in weight_shapes(layer).items()}
    for key, shape in shapes.items():
        if key not in weights:
            raise ExportError(f"The architecture has a weight {key!r} of shape {shape}; the weights given lack it.")
        if weights[key].shape != shape:
            raise ExportError(
                f"{key!r} has shape {shape} by the architecture; the weights given have {weights[key].shape}. "
                "Are they another network's?"
            )


def random_weights(layers: Sequence[Layer], rng: np.random.Generator) -> dict[str, FloatArray]:
    """Weights for measuring the latency of an untrained network, without torch.

    Convolutions and the head keep the scale of their input, batch norms do nothing, and a block adds a tenth of
    its input's scale: activations of a standard normal image stay near 1 at any depth, far from overflow and
    from denormal numbers, which are slow.
    """
    branch_ends = {layer.inputs[1] for layer in layers if layer.op == "residual"}
    weights: dict[str, FloatArray] = {}
    for layer in layers:
        for key, shape in weight_shapes(layer).items():
            scale = _BRANCH_SCALE if layer.name in branch_ends else 1.0
            weights[key] = _draw(key, shape, scale, rng)
    return weights


def _norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{entry}": (channels,) for entry in ("weight", "bias", "running_mean", "running_var")}


def _draw(key: str, shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> FloatArray:
    """A kernel at `scale` times its input's scale; a vector that changes nothing."""
    if len(shape) == 1:
        is_one = key.endswith(("bn.weight", "norm.weight", "running_var"))
        return np.full(shape, 1.0 if is_one else 0.0, np.float32)
    fan_in = int(np.prod(shape[1:]))
    kernel = rng.standard_normal(shape, dtype=np.float32)
    kernel *= np.float32(scale / fan_in**0.5)
    return kernel

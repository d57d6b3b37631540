"""A network in the form that a backend runs: its layers and weights, ONNX, or a PyTorch module."""

from __future__ import annotations

import copy
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.errors import BackendError, EvaluationError, first_line
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import FloatArray, random_weights, state_dict_arrays
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer
from starsearch.families.timm import TimmArchitecture
from starsearch.latency.backends.backend import Network
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from torch import nn

_OPSET = 17  # runs on every ONNX Runtime from 1.12 (2022) on


def has_layers(network: Network) -> bool:
    """Whether the structure of `network` is known: it is an architecture or a module of ours."""
    if isinstance(network, (Architecture, bytes)):
        return not isinstance(network, (TimmArchitecture, bytes))
    from starsearch.families.network import Network as Module

    return isinstance(network, Module)


def as_layers(
    network: Network, *, resolution: Resolution, rng: np.random.Generator, num_classes: int = 1000
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]] | None:
    """Return the lowering of a network of ours, with its weights by state-dict key (an architecture's: random).

    None for an ONNX file, a model of timm's or another module, whose structure is not known.
    """
    if not has_layers(network):
        return None
    if isinstance(network, Architecture):
        layers = lower(network, resolution=resolution, num_classes=num_classes)
        return layers, random_weights(layers, rng)
    module: Any = network
    return module.lower(resolution=resolution), state_dict_arrays(module)


def as_onnx(network: Network, *, resolution: Resolution, rng: np.random.Generator, num_classes: int = 1000) -> bytes:
    """Return `network` as an ONNX file's bytes: one of ours is written directly (30 ms), others traced (seconds)."""
    if isinstance(network, bytes):
        return network
    known = as_layers(network, resolution=resolution, rng=rng, num_classes=num_classes)
    if known:
        return build_onnx(*known)
    return _trace_onnx(
        as_module(network, resolution=resolution, rng=rng, num_classes=num_classes), resolution=resolution
    )


def as_module(
    network: Network, *, resolution: Resolution, rng: np.random.Generator, num_classes: int = 1000
) -> nn.Module:
    """Return `network` as a PyTorch module in eval mode; a module is copied and stays as it is."""
    if isinstance(network, bytes):
        raise BackendError(
            "PyTorch runs no ONNX files: measure this one with an onnxruntime backend, or name the architecture."
        )
    if not isinstance(network, Architecture):
        return copy.deepcopy(network).cpu().eval()
    if isinstance(network, TimmArchitecture):
        return timm_network(network.name, num_classes=num_classes)
    import torch

    from starsearch.families.network import build_model

    with torch.random.fork_rng(devices=[]):  # its initialisation must not move the caller's seed
        model = build_model(network, num_classes=num_classes)
    weights = random_weights(lower(network, resolution=resolution, num_classes=num_classes), rng)
    # Not strict: the weights leave out the batch norms' counters of training steps.
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=False)
    return model.eval()


def timm_network(name: str, **options: Any) -> nn.Module:
    """Return a network of timm with random weights, as it is deployed: branches that only training has are folded."""
    import timm
    import torch
    from timm.utils.model import reparameterize_model

    with torch.random.fork_rng(devices=[]):
        found: nn.Module = reparameterize_model(timm.create_model(name, pretrained=False, **options).eval())
    return found


def image_channels(module: nn.Module) -> int:
    """Return the channels of the image that `module` takes: as timm's configuration says, else 3."""
    config = getattr(module, "pretrained_cfg", None) or {}
    return int(getattr(module, "in_chans", None) or config.get("input_size", (3,))[0])


def _trace_onnx(module: nn.Module, *, resolution: Resolution) -> bytes:
    """Trace any image network at one image, by PyTorch's TorchScript exporter.

    Its dynamo exporter takes two to three times as long and ends as the same graph in ONNX Runtime.
    """
    import torch

    image = torch.zeros(1, image_channels(module), *sides(resolution))
    buffer = BytesIO()
    with warnings.catch_warnings():
        # It warns of its own age and of shapes that become constants, which is what is wanted here.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(module, (image,), buffer, dynamo=False, opset_version=_OPSET)  # type: ignore[arg-type] # takes any file object
        except Exception as error:  # whatever a network or an exporter may raise
            raise EvaluationError(
                f"PyTorch cannot export {type(module).__name__} as ONNX at {resolution} px: {first_line(error)}"
            ) from error
    return buffer.getvalue()

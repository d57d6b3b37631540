"""A network in the form that a backend runs: as ONNX, or as a PyTorch module."""

from __future__ import annotations

import copy
import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from starsearch.errors import BackendError, EvaluationError
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer
from starsearch.latency.backends.backend import Network
from starsearch.latency.onnxruntime import first_line

if TYPE_CHECKING:
    from torch import nn

    from starsearch.export.weights import FloatArray

_OPSET = 17  # runs on every ONNX Runtime from 1.12 (2022) on


def as_onnx(network: Network, *, resolution: int, rng: np.random.Generator) -> bytes:
    """`network` as an ONNX file's bytes; what is one already stays as it is.

    Star networks are written directly (30 ms), other modules are traced (seconds).

    Raises:
        EvaluationError: the module cannot be traced.
    """
    if isinstance(network, bytes):
        return network
    if not isinstance(network, Architecture):
        from starsearch.families.network import Network

        if not isinstance(network, Network):
            return trace_onnx(network, resolution=resolution)
    from starsearch.export.onnx import build_onnx

    return build_onnx(*as_layers(network, resolution=resolution, rng=rng))


def as_layers(
    network: Network, *, resolution: int, rng: np.random.Generator, num_classes: int = 1000
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    """The lowering of an architecture or a StarNet, with its weights by state-dict key (an architecture's: random).

    Raises:
        BackendError: it is another network, whose structure is not known.
    """
    from starsearch.export.weights import random_weights, state_dict_arrays

    if isinstance(network, Architecture):
        layers = lower(network, resolution=resolution, num_classes=num_classes)
        return layers, random_weights(layers, rng)
    from starsearch.families.network import Network

    if not isinstance(network, Network):
        raise BackendError(
            "This backend runs networks of the star design space; other models and ONNX files are measured with an "
            "onnxruntime backend."
        )
    return network.lower(resolution=resolution), state_dict_arrays(network)


def as_module(network: Network, *, resolution: int, rng: np.random.Generator, num_classes: int = 1000) -> nn.Module:
    """`network` as a PyTorch module in eval mode; a module is copied and stays as it is.

    Raises:
        BackendError: it is an ONNX file, which PyTorch cannot run.
    """
    if isinstance(network, bytes):
        raise BackendError(
            "PyTorch runs no ONNX files: measure this one with an onnxruntime backend, or name the architecture."
        )
    if not isinstance(network, Architecture):
        return copy.deepcopy(network).cpu().eval()
    import torch

    from starsearch.export.weights import random_weights
    from starsearch.families.network import build_model

    with torch.random.fork_rng(devices=[]):  # its initialisation shall not move the caller's seed
        model = build_model(network, num_classes=num_classes)
    weights = random_weights(lower(network, resolution=resolution, num_classes=num_classes), rng)
    # Not strict: the weights leave out the batch norms' counters of training steps.
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=False)
    return model.eval()


def trace_onnx(module: nn.Module, *, resolution: int) -> bytes:
    """Any image network as ONNX, traced at one image of `resolution` pixels by PyTorch's TorchScript exporter.

    Its dynamo exporter takes two to three times as long and ends as the same graph in ONNX Runtime.

    Raises:
        EvaluationError: PyTorch cannot export the network at this resolution.
    """
    import torch

    image = torch.zeros(1, image_channels(module), resolution, resolution)
    traced = copy.deepcopy(module).cpu().eval()
    buffer = BytesIO()
    with warnings.catch_warnings():
        # It warns of its own age and of shapes that become constants, which is what is wanted here.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(traced, (image,), buffer, dynamo=False, opset_version=_OPSET)  # type: ignore[arg-type] # takes any file object
        except Exception as error:  # whatever a network or an exporter may raise
            raise EvaluationError(
                f"PyTorch cannot export {type(module).__name__} as ONNX at {resolution} px: {first_line(error)}"
            ) from error
    return buffer.getvalue()


def image_channels(module: nn.Module) -> int:
    """Channels of the image that `module` takes: as timm's configuration says, else 3."""
    config = getattr(module, "pretrained_cfg", None) or {}
    return int(getattr(module, "in_chans", None) or config.get("input_size", (3,))[0])

"""Files of trained weights: those that starsearch wrote, StarNet's published ones, and any state dict of torch's."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import read_metadata
from starsearch.errors import EvaluationError, first_line
from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture

if TYPE_CHECKING:
    from starsearch.data.preprocessing import Validated
    from starsearch.families.network import Network


def load_network(path: Path, architecture: Architecture | None = None) -> tuple[Network, Validated | None]:
    """Return the network with the weights of a file, in eval mode, and how the file says it was validated.

    Without an `architecture` it is the one that starsearch wrote into the file.
    """
    from starsearch.families.network import build_model

    state, about = read_state(path), _metadata(path)
    if architecture is None and "architecture" not in about:
        raise EvaluationError(
            f"{path.name} does not say which network its weights are of. Name the architecture: starsearch validate "
            f"ARCHITECTURE --weights {path.name}; other networks are timm:NAME."
        )
    head, stem = state.get("head.weight"), state.get("stem.0.conv.weight")
    model = build_model(
        architecture or parse_architecture(about["architecture"]),
        num_classes=1000 if head is None else len(head),
        in_chans=3 if stem is None else stem.shape[1],
        stem_stride=int(about.get("stem_stride", 2)),
    )
    fill(model, state, path)
    return model.eval(), read_validated(path)


def read_validated(path: Path) -> Validated | None:
    """Return how a file's weights were validated in their training; None where it does not say."""
    return read_metadata(path, _metadata(path))


def read_state(path: Path) -> Mapping[str, Any]:
    """Return the state dict of a file, the moving average's where there is one; nothing in it is executed."""
    import torch
    from timm.models import load_state_dict

    if not path.is_file():
        raise EvaluationError(f"There is no weight file {str(path)!r}.")
    load: Any = load_state_dict  # timm has no types
    try:
        state = dict(load(str(path), use_ema=True, weights_only=True))
    except Exception as error:  # torch's, pickle's, zipfile's and safetensors' errors share no base class
        raise EvaluationError(
            f"{path.name} cannot be read as weights (.safetensors, or a state dict of torch's that is tensors only): "
            f"{first_line(error)}"
        ) from error
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise EvaluationError(f"{path.name} holds no weights: no tensor is in it, nor in its 'state_dict' or 'model'.")
    return tensors


def fill(model: Any, state: Mapping[str, Any], path: Path) -> None:
    """Put all weights of a file into the model."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:  # a headline, then a line for what is missing, for what is foreign, for other shapes
        problem = " ".join(str(error).splitlines()[1:2]).strip()
        shown = textwrap.shorten(problem, 200, placeholder=" …")
        raise EvaluationError(f"The weights in {path.name} are of another network: {shown}") from error


def _metadata(path: Path) -> Mapping[str, str]:
    """Return what a .safetensors file says about itself."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def fetch_published(name: str) -> Any:
    """Return timm's model with its published weights, from the cache or the hub."""
    import timm

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # of its dozen warnings the error below says it all
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client, httpx and timm share no base class
        raise EvaluationError(
            f"The published weights of {name} cannot be fetched: {first_line(error)} Name a file of weights with "
            "--weights."
        ) from error
    finally:
        logger.setLevel(level)

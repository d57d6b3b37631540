"""Files of trained weights: those that starsearch wrote, StarNet's published ones, and any state dict of torch's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import ArchitectureError, EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture

if TYPE_CHECKING:
    import torch
    from torch import nn

    from starsearch.data.preprocessing import Validated
    from starsearch.families.network import Network

State = Mapping[str, "torch.Tensor"]
_SHOWN = 3  # keys in an error's text
_MODULE = re.compile(r"stages\.(\d+)\.(\d+)\.")


def load_starnet(path: Path, architecture: Architecture | None = None) -> Network:
    """The StarNet with the weights of a file, in eval mode.

    Without `architecture`, the file says it where starsearch wrote it. Of StarNet's own files the widths, depths,
    ratios and kernels are read off the weights' shapes; what leaves no trace there, operation and activations, is
    taken as published: a star, one activation.

    Args:
        path: .safetensors, or torch's .pth, .pth.tar, .pt, .bin.
        architecture: that the weights shall fit.

    Raises:
        EvaluationError: the file cannot be read, or its weights are of another network.
    """
    from starsearch.families.network import build_model

    state, about = read_state(path), _metadata(path)
    try:
        found = architecture or (
            parse_architecture(about["architecture"]) if "architecture" in about else infer_architecture(state)
        )
    except (KeyError, IndexError, ValueError, ArchitectureError) as error:
        raise EvaluationError(
            f"The weights in {path.name} are not of a StarNet that can be told from them ({_words(error)}). Name the "
            f"architecture: starsearch validate ARCHITECTURE --weights {path.name}; other networks are timm:NAME."
        ) from error
    model = build_model(
        found,
        num_classes=_size(state, "head.weight", 0) or 1000,
        in_chans=_size(state, "stem.0.conv.weight", 1) or 3,
        stem_stride=int(about.get("stem_stride", 2)),
    )
    fill(model, state, path)
    return model.eval()


def read_validated(path: Path) -> Validated | None:
    """How the weights of a file were validated in their training; None where it does not say.

    Raises:
        EvaluationError: what it says is not what starsearch writes.
    """
    from starsearch.data.preprocessing import Validated

    try:
        return Validated.of_metadata(_metadata(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{path.name} says in its metadata how it was validated, but not as starsearch does: {_words(error)}"
        ) from error


def read_state(path: Path) -> State:
    """The state dict of a file: the moving average's where there is one, without what DataParallel puts before keys.

    Nothing in the file is executed (`weights_only`).

    Raises:
        EvaluationError: it is not there, or holds no weights.
    """
    import timm.models
    import torch

    if not path.is_file():
        raise EvaluationError(f"There is no weight file {str(path)!r}.")
    load: Any = timm.models.load_state_dict  # timm has no types
    try:
        state = load(str(path), use_ema=True, weights_only=True)
    except Exception as error:  # torch's, pickle's, zipfile's and safetensors' errors share no base class
        raise EvaluationError(
            f"{path.name} cannot be read as weights (.safetensors, or a state dict of torch's that is tensors only): "
            f"{_words(error)}"
        ) from error
    tensors = {key: value for key, value in dict(state).items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise EvaluationError(f"{path.name} holds no weights: no tensor is in it, nor in its 'state_dict' or 'model'.")
    return tensors


def fill(model: nn.Module, state: State, path: Path) -> None:
    """Put all weights of a file into the model.

    Raises:
        EvaluationError: one is missing, or has another shape, or belongs nowhere.
    """
    own = model.state_dict()
    lacking = [key for key in own if key not in state]
    foreign = [key for key in state if key not in own]
    other = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = [
        *([f"the file lacks {_some(lacking)}"] if lacking else []),
        *([f"the model has no {_some(foreign)}"] if foreign else []),
        *(
            f"{key} is {tuple(state[key].shape)} in the file and {tuple(own[key].shape)} in the model"
            for key in other[:1]
        ),
    ]
    if problems:
        raise EvaluationError(f"The weights in {path.name} are of another network: {'; '.join(problems)}.")
    model.load_state_dict(dict(state))


def infer_architecture(state: State) -> Architecture:
    """The StarNet whose weights have these shapes.

    Raises:
        KeyError: there is no such StarNet, for want of a stem or a stage.
        ArchitectureError: the shapes break a rule.
    """
    depths, widths = _stages(state)
    ratios: list[float] = []
    kernels: list[int] = []
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        block = f"stages.{stage}.1"
        ratio = state[f"{block}.f1.conv.weight"].shape[0] / width if depth else 4.0
        ratios.append(int(ratio) if ratio == int(ratio) else ratio)
        kernels.append(state[f"{block}.dwconv.conv.weight"].shape[-1] if depth else 7)
    is_regular = all(width == widths[0] * 2**stage for stage, width in enumerate(widths))
    return Architecture.of(
        embed_dim=widths[0],
        widths=None if is_regular else widths,
        depths=depths,
        stem_width=state["stem.0.conv.weight"].shape[0],
        mlp_ratio=tuple(ratios),
        kernel_size=tuple(kernels),
    ).canonical()


def _stages(state: State) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Depth and width of each stage; module 0 of a stage is its down-sampler, the others are its blocks."""
    places = {tuple(map(int, found.groups())) for key in state if (found := _MODULE.match(key))}
    num_stages = len({stage for stage, _ in places})
    depths = tuple(sum(of == stage for of, _ in places) - 1 for stage in range(num_stages))
    return depths, tuple(state[f"stages.{stage}.0.conv.weight"].shape[0] for stage in range(num_stages))


def _metadata(path: Path) -> Mapping[str, str]:
    """What a .safetensors file says about itself."""
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _size(state: State, key: str, axis: int) -> int | None:
    return int(state[key].shape[axis]) if key in state and state[key].ndim > axis else None


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _words(error: Exception) -> str:
    """The error's first line; of a KeyError, which says but the key, that it is not there."""
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]}"
    return (str(error).strip() or type(error).__name__).splitlines()[0]

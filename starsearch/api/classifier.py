"""`Classifier`: a trained network that answers images, whether torch or ONNX Runtime runs it; and files of weights."""

from __future__ import annotations

import json
import logging
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.data.preprocessing import Validated
from starsearch.data.source import Orientation
from starsearch.errors import EvaluationError, first_line
from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture
from starsearch.resolution import Resolution, of_sides, sides

if TYPE_CHECKING:
    import torch
    from torch import nn

    from starsearch.families.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A network that answers images.

    Attributes:
        text: what to call it.
        logits: maps images (batch, 3, height, width) in float32 on its device to (batch, outputs).
        num_outputs: how many outputs its head has.
        class_names: the classes of the outputs, where the file says them; else ().
        config: how timm would prepare an image for it, as a model's `pretrained_cfg`; what it does not say is the
            default's or the data's.
        orientation: how the pictures it was trained on were turned, "exif" or "stored"; None where that is not known.
        fixed_resolution: the only one that it takes; None for any.
        runs_on_cpu: whether images must stay on the processor, whatever the device.
    """

    text: str
    logits: Callable[[torch.Tensor], torch.Tensor]
    num_outputs: int
    class_names: tuple[str, ...] = ()
    config: Mapping[str, Any]
    orientation: Orientation | None = None
    fixed_resolution: Resolution | None = None
    runs_on_cpu: bool = False

    @classmethod
    def of_module(cls, text: str, module: nn.Module, device: str, validated: Validated | None = None) -> Classifier:
        """Return a module as a classifier, prepared for as `validated`, or else its own `pretrained_cfg`, says."""
        import torch

        module = module.eval().to(device).to(memory_format=torch.channels_last)

        def logits(images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = module(images.contiguous(memory_format=torch.channels_last))
            return found

        num_outputs: Any = module.num_classes
        description = _of_validated(validated) or _of_config({"pretrained_cfg": getattr(module, "pretrained_cfg", {})})
        if len(description["class_names"]) != num_outputs:
            description["class_names"] = ()
        return cls(text=text, logits=logits, num_outputs=num_outputs, **description)

    @classmethod
    def of_onnx(cls, path: Path, model: bytes) -> Classifier:
        """Return an ONNX file, read from `path`, as a classifier; batch and resolution are as the file has them."""
        import torch

        from starsearch.latency.backends.onnxruntime import build_session

        session = build_session(model, threads=torch.get_num_threads())
        batch, resolution = _input_size(path, session)
        found = _run(path, session, torch.zeros((batch or 1, 3, *sides(resolution or 224))))
        if found.ndim != 2 or len(found) != (batch or 1):
            raise EvaluationError(
                f"A classifier gives logits (batch, classes); {path.name} gives {tuple(found.shape)} for a batch of "
                f"{batch or 1}."
            )
        # How images are prepared, by the file's metadata or else a config.json beside it.
        description = _of_validated(read_metadata(path, session.get_modelmeta().custom_metadata_map))
        description = description or read_config(path.with_name("config.json"))
        if resolution is not None:
            description["config"]["input_size"] = (3, *sides(resolution))
        if len(description["class_names"]) != found.shape[1]:
            description["class_names"] = ()

        def logits(images: torch.Tensor) -> torch.Tensor:
            parts = []
            for part in torch.split(images, batch or len(images)):
                missing = (batch or len(part)) - len(part)  # filled up with black, and forgotten again
                whole = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else part
                parts.append(_run(path, session, whole)[: len(part)])
            return torch.cat(parts)

        return cls(
            text=path.name,
            logits=logits,
            num_outputs=int(found.shape[1]),
            fixed_resolution=resolution,
            runs_on_cpu=True,
            **description,
        )


def read_metadata(path: Path, about: Mapping[str, str]) -> Validated | None:
    """Return how a file's network was validated in its training; None where its metadata do not say it."""
    try:
        return Validated.of_metadata(about)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{path.name} says in its metadata how it was validated, but not as starsearch does: {first_line(error)}"
        ) from error


def read_config(path: Path) -> dict[str, Any]:
    """Return what timm's config.json says of preprocessing and classes; nothing where it is none of timm's."""
    try:
        return _of_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _of_config({})


def _of_validated(validated: Validated | None) -> dict[str, Any] | None:
    if validated is None:
        return None
    prepared = validated.preprocessing
    return {
        "config": prepared.timm_config(),
        "class_names": tuple(validated.classes),
        "orientation": prepared.orientation,
    }


def _of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    prepared = dict(config.get("pretrained_cfg") or {})
    names = config.get("label_names") or prepared.get("label_names") or ()
    orientation = config.get("starsearch", {}).get("orientation")
    return {"config": prepared, "class_names": tuple(map(str, names)), "orientation": orientation}


def _input_size(path: Path, session: Any) -> tuple[int | None, Resolution | None]:
    """Return batch size and resolution of the input, None for any."""
    inputs = session.get_inputs()
    said = "; ".join(f"{value.name} of {value.type} {value.shape}" for value in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise EvaluationError(
            f"A classifier takes one input of images, float (batch, 3, height, width); {path.name} takes {said}."
        )
    batch, channels, height, width = (size if isinstance(size, int) else None for size in inputs[0].shape)
    if channels not in (3, None) or (height is None) != (width is None):
        raise EvaluationError(
            f"A classifier is validated on images of three channels, of one size or of any; {path.name} takes {said}."
        )
    return batch, of_sides(height, width) if height and width else None


def _run(path: Path, session: Any, images: torch.Tensor) -> torch.Tensor:
    import torch

    try:
        first, *_ = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise EvaluationError(f"ONNX Runtime could not run {path.name}: {first_line(error)}") from error
    return torch.from_numpy(first)


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
    if isinstance(kept := state.get("optimisation"), Mapping):  # the checkpoint of one of our trainings
        state = kept.get("ema") or kept.get("model") or {}
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

"""An ONNX file as a classifier, run by ONNX Runtime on the processor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import Classifier
from starsearch.data.source import Orientation
from starsearch.errors import EvaluationError

if TYPE_CHECKING:
    import torch


def open_onnx(path: Path) -> Classifier:
    """The classifier of a file; batch and resolution are as the file has them.

    Raises:
        EvaluationError: the file cannot be read or run, or does not take images to logits.
    """
    import torch

    from starsearch.api.networks import find_network
    from starsearch.latency.backends.onnxruntime import build_session

    model = find_network(str(path)).network
    assert isinstance(model, bytes)
    session = build_session(model, threads=torch.get_num_threads())
    batch, resolution = _input_size(path, session)
    num_outputs = _num_outputs(path, session, (batch or 1, 3, resolution or 224, resolution or 224))
    config, names, orientation = _description(path, session.get_modelmeta().custom_metadata_map)
    if resolution is not None:
        config["input_size"] = (3, resolution, resolution)
    return Classifier(
        text=path.name,
        logits=_runner(path, session, batch),
        num_outputs=num_outputs,
        class_names=names if len(names) == num_outputs else (),
        config=config,
        orientation=orientation,
        fixed_resolution=resolution,
        runs_on_cpu=True,
    )


def _description(path: Path, about: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...], Orientation | None]:
    """How images are prepared, the class names and the orientation, by the metadata or else a config.json beside it."""
    from starsearch.data.preprocessing import Validated

    try:
        validated = Validated.of_metadata(about)
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{path.name} says in its metadata how it was validated, but not as starsearch does: {error}"
        ) from error
    if validated is not None:
        prepared = validated.preprocessing
        return prepared.timm_config(), tuple(validated.classes), prepared.orientation
    try:
        beside = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))
        orientation = beside.get("starsearch", {}).get("orientation")
        return dict(beside["pretrained_cfg"]), tuple(beside.get("label_names") or ()), orientation
    except (OSError, ValueError, KeyError, TypeError):  # none of timm's
        return {}, (), None


def _input_size(path: Path, session: Any) -> tuple[int | None, int | None]:
    """Batch size and resolution of the input, None for any."""
    inputs = session.get_inputs()
    said = "; ".join(f"{value.name} of {value.type} {value.shape}" for value in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise EvaluationError(
            f"A classifier takes one input of images, float (batch, 3, height, width); {path.name} takes {said}."
        )
    batch, channels, height, width = (size if isinstance(size, int) else None for size in inputs[0].shape)
    if channels not in (3, None) or height != width:
        raise EvaluationError(
            f"A classifier is validated on square images of three channels; {path.name} takes {said}."
        )
    return batch, height


def _num_outputs(path: Path, session: Any, shape: tuple[int, int, int, int]) -> int:
    """Found by a run: a file need not say the shape of its output."""
    import torch

    found = _run(path, session, torch.zeros(shape))
    if found.ndim != 2 or len(found) != shape[0]:
        raise EvaluationError(
            f"A classifier gives logits (batch, classes); {path.name} gives {tuple(found.shape)} for a batch of "
            f"{shape[0]}."
        )
    return int(found.shape[1])


def _runner(path: Path, session: Any, batch: int | None) -> Callable[[torch.Tensor], torch.Tensor]:
    def logits(images: torch.Tensor) -> torch.Tensor:
        import torch

        if batch is None:
            return _run(path, session, images)
        parts = []
        for part in torch.split(images, batch):
            missing = batch - len(part)  # of the last part: filled up with black, and forgotten again
            whole = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else part
            parts.append(_run(path, session, whole)[: len(part)])
        return torch.cat(parts)

    return logits


def _run(path: Path, session: Any, images: torch.Tensor) -> torch.Tensor:
    import torch

    try:
        first, *_ = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    except Exception as error:  # ONNX Runtime's errors share no base class
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EvaluationError(f"ONNX Runtime could not run {path.name}: {words}") from error
    return torch.from_numpy(first)

"""A trained network in any of the forms that `starsearch validate` takes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.architectures import find_architecture
from starsearch.api.classifier import Classifier
from starsearch.api.onnx_classifier import open_onnx
from starsearch.api.weight_files import fill, load_starnet, read_state, read_validated
from starsearch.data.source import Orientation
from starsearch.errors import EvaluationError, did_you_mean
from starsearch.families.family import Architecture, presets
from starsearch.families.text import format_architecture

if TYPE_CHECKING:
    import torch
    from torch import nn

_TIMM = "timm:"
_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".tar", ".bin")
_PUBLISHED = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")  # the smaller ones' weights are not published
_RELEASES = "https://github.com/ma-xu/Rewrite-the-Stars/releases/download/checkpoints_v1"


def find_classifier(text: str, *, weights: Path | None, device: str) -> Classifier:
    """The trained network that `text` names.

    Args:
        text: a published name, an architecture or timm:NAME, with the published weights or those of `weights`; a
            folder that `starsearch export` or `starsearch train` wrote; a file of weights; FILE.onnx; or STUDY:TRIAL.
        weights: a file of weights, for the forms that have none of their own.
        device: of torch, on which it shall run; ONNX Runtime runs on the processor.

    Raises:
        ArchitectureError, SpecError, StudyError: the text names no network.
        EvaluationError: there are no weights for it, or they cannot be read or fetched.
    """
    path = Path(text)
    if text.startswith(_TIMM):
        return _of_timm(text.removeprefix(_TIMM), weights, device)
    if path.is_dir() or (path.is_file() and path.suffix in (".onnx", *_WEIGHTS)) or _trial_of(text):
        if weights is not None:
            raise EvaluationError(f"{text} has weights of its own; leave out --weights, or name an architecture.")
        return _with_own_weights(text, path, device)
    if path.suffix in (".onnx", *_WEIGHTS):
        raise EvaluationError(f"There is no file {text!r}.")
    architecture = find_architecture(text)
    if weights is None:
        return _of_published(text, architecture, device)
    return _of_file(format_architecture(architecture) + f" ({weights.name})", weights, device, architecture)


def _with_own_weights(text: str, path: Path, device: str) -> Classifier:
    if path.is_dir():
        return _of_folder(path, device) if (path / _CONFIG).is_file() else _of_training(path, device)
    if path.suffix == ".onnx":
        return open_onnx(path)
    if path.is_file():
        return _of_file(None, path, device)
    found = _trial_of(text)
    assert found is not None  # or the caller had not come here
    return _of_trial(found[1], int(found[2]), device)


def _trial_of(text: str) -> re.Match[str] | None:
    return re.fullmatch(r"(.+):(\d+)", text)


def _of_module(
    text: str,
    module: nn.Module,
    device: str,
    *,
    class_names: tuple[str, ...] = (),
    config: Mapping[str, Any] | None = None,
    orientation: Orientation | None = None,
) -> Classifier:
    import torch

    module = module.eval().to(device).to(memory_format=torch.channels_last)

    def logits(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(images.contiguous(memory_format=torch.channels_last))
        return found

    num_outputs: Any = module.num_classes
    return Classifier(
        text=text,
        logits=logits,
        num_outputs=num_outputs,
        class_names=class_names,
        config=config or {},
        orientation=orientation,
    )


def _of_file(text: str | None, file: Path, device: str, architecture: Architecture | None = None) -> Classifier:
    """The network of a file of weights, prepared for and named as that file says, where it does."""
    model, validated = load_starnet(file, architecture), read_validated(file)
    text = text or f"{file.name} ({format_architecture(model.architecture)})"
    if validated is None:
        return _of_module(text, model, device)
    names = tuple(validated.classes) if len(validated.classes) == model.num_classes else ()
    prepared = validated.preprocessing
    return _of_module(
        text, model, device, class_names=names, config=prepared.timm_config(), orientation=prepared.orientation
    )


def _of_training(folder: Path, device: str) -> Classifier:
    """The best network of a training: as it was exported at its end, or as it is kept until then."""
    exported, best = folder / "timm", folder / "best.safetensors"  # as `TrainingFolder` names them
    if (exported / _CONFIG).is_file():
        return replace(_of_folder(exported, device), text=f"{folder.resolve().name} (its best epoch)")
    if best.is_file():
        return _of_file(f"{folder.resolve().name} (its best epoch so far)", best, device)
    raise EvaluationError(
        f"The folder {str(folder)!r} holds no network: neither config.json, as `starsearch export --format timm` "
        "writes it, nor best.safetensors, as `starsearch train` does after its first epoch. Name such a "
        "folder, or a study's trial as STUDY:NUMBER."
    )


def _of_timm(name: str, weights: Path | None, device: str) -> Classifier:
    import timm

    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        raise EvaluationError(
            f"timm {timm.__version__} has no model {name!r}.{did_you_mean(bare, timm.list_models())} "
            f"List some: python -c \"import timm; print(timm.list_models('*{bare[:6]}*'))\""
        )
    if weights is None:
        module = _fetched(name)
    else:
        state = read_state(weights)
        classifier = getattr(timm.get_pretrained_cfg(bare), "classifier", None)
        head = state.get(f"{classifier}.weight") if isinstance(classifier, str) else None
        arguments: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
        module = timm.create_model(name, pretrained=False, **arguments)
        fill(module, state, weights)
    text = f"{_TIMM}{name}" + (f" ({weights.name})" if weights is not None else "")
    return _of_module(text, module, device, config=module.pretrained_cfg)


def _of_published(text: str, architecture: Architecture, device: str) -> Classifier:
    name = next((name for name in _PUBLISHED if presets()[name] == architecture), None)
    if name is None:
        raise EvaluationError(
            f"There are no published weights of {text}: those of {', '.join(_PUBLISHED)} are. Name a file with "
            "--weights, or a study's trial as STUDY:NUMBER."
        )
    module = _fetched(name)
    return _of_module(f"{name} (published weights)", module, device, config=module.pretrained_cfg)


def _fetched(name: str) -> Any:
    """timm's model with its published weights, from the cache or the hub."""
    import timm

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # of its dozen warnings the error below says it all
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client, httpx and timm share no base class
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EvaluationError(
            f"The published weights of {name} cannot be fetched: {words} {_where_to_fetch(name)}"
        ) from error
    finally:
        logger.setLevel(level)


def _where_to_fetch(name: str) -> str:
    import timm

    config: Any = timm.get_pretrained_cfg(name)  # None where timm knows no weights
    hub = getattr(config, "hf_hub_id", None)
    places = []
    if hub:
        tag = f".{config.tag}" if config.tag else ""
        repository = f"{hub}{name.partition('.')[0]}{tag}" if hub.endswith("/") else hub
        places.append(f"https://huggingface.co/{repository}/resolve/main/model.safetensors")
    if name in _PUBLISHED:
        places.append(f"{_RELEASES}/{name}.pth.tar")
    if not places:
        return "Name a file of weights with --weights."
    return f"Fetch {' or '.join(places)} where there is a network, and name the file with --weights."


def _of_folder(folder: Path, device: str) -> Classifier:
    import timm

    import starsearch.families.starnet_module  # noqa: F401  # registers starsearch_starnet

    try:
        module: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # whatever timm says about its own file format
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EvaluationError(f"timm cannot load the folder {str(folder)!r}: {words}") from error
    config = module.pretrained_cfg
    names = tuple(str(name) for name in config.get("label_names") or ())
    about = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    orientation = about.get("starsearch", {}).get("orientation")
    return _of_module(folder.resolve().name, module, device, class_names=names, config=config, orientation=orientation)


def _of_trial(study: str, number: int, device: str) -> Classifier:
    from starsearch.api.exporting import load_trained, preprocessing_of
    from starsearch.api.study import open_view
    from starsearch.api.study_folder import place_of
    from starsearch.errors import StudyError

    place = place_of(study)
    if place.folder is None:
        raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
    view = open_view(place)
    place = replace(place, name=view.name, folder=view.folder)  # of the highest fidelity
    rows = view.trials[view.trials["number"] == number].to_dict("records")
    if not rows:
        raise StudyError(f"The study {study} has no trial {number}.")
    row = {str(column): value for column, value in rows[0].items()}
    attributes = view.attributes
    prepared = preprocessing_of(attributes)
    return _of_module(
        f"{study}:{number} ({row['architecture_text']})",
        load_trained(place, number, row),
        device,
        class_names=tuple(attributes.get("classes", ())),
        config=prepared.timm_config(),
        orientation=prepared.orientation,
    )

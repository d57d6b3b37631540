"""`resolve`: a network in any of the forms a user may write."""

from __future__ import annotations

import json
import logging
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import Classifier, read_metadata
from starsearch.errors import ArchitectureError, EvaluationError, StudyError, did_you_mean, first_line
from starsearch.families.family import Architecture, count_macs, presets
from starsearch.families.text import format_architecture, parse_architecture

if TYPE_CHECKING:
    from starsearch.data.preprocessing import Validated
    from starsearch.families.network import Network
    from starsearch.latency.backends.backend import Network as Timed
    from starsearch.recipe import Fidelity, Recipe
    from starsearch.study.spec import StudySpec

_RESOLUTION = 224
_TIMM = "timm:"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".tar", ".bin")
_PUBLISHED = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")  # the smaller ones' weights are not published


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedNetwork:
    """A network to be timed (architectures and timm's models have random weights), and what to call it.

    An ONNX file has a `resolution` of its own, None here; only an architecture's `macs` are known.
    """

    text: str
    network: Timed
    resolution: int | None
    num_classes: int = 1000
    macs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNetwork:
    """A network that the user has named; its form decides what can be done with it."""

    text: str

    @property
    def architecture(self) -> Architecture:
        """The canonical architecture; asking for it raises `ArchitectureError` where the text names none."""
        return parse_architecture(self.text)

    def for_timing(self, resolution: int | None = None) -> TimedNetwork:
        """Return what is timed, at `resolution` pixels or else a study's, a timm model's own, or 224."""
        return _timed(self.architecture, resolution or _RESOLUTION)

    def classifier(self, *, weights: Path | None = None, device: str = "cpu") -> Classifier:
        """Return the trained network, with the weights of a file where the form has none of its own."""
        if weights is not None:
            raise EvaluationError(f"{self.text} has weights of its own; leave out --weights, or name an architecture.")
        return self._classifier(device)

    def _classifier(self, device: str) -> Classifier:
        raise NotImplementedError


def resolve(text: str) -> NamedNetwork:
    """Return the network that a text names.

    Args:
        text: a name (starnet_s1), one line (starnet:embed_dim=24,depths=2-2-8-3), a YAML file of fields, a study's
            trial (studies/starnet:7; split at the last colon before digits), timm:NAME, FILE.onnx, a file of weights,
            or a folder that `starsearch export` or `starsearch train` wrote.

    Raises:
        ArchitectureError: the text, or the file's fields, cannot be read.
        SpecError: the file is not YAML.
        StudyError: there is no such study or trial.
    """
    path, trial = Path(text), re.fullmatch(r"(.+):(\d+)", text)
    if text.startswith(_TIMM):
        return _TimmNetwork(text=text)
    if path.suffix == ".onnx":
        return _OnnxFile(text=text)
    if path.suffix in _WEIGHTS:
        return _WeightFile(text=text)
    if path.is_dir():
        return _Folder(text=text)
    if path.is_file():
        return NamedArchitecture(text=text, found=_read_architecture(path))
    if trial is not None:
        return open_trial(trial[1], int(trial[2]))
    return NamedArchitecture(text=text, found=parse_architecture(text))


def _read_architecture(path: Path) -> Architecture:
    from starsearch.yaml_file import read_yaml

    file = read_yaml(path)
    if not isinstance(file.data, dict):
        raise file.error((), "an architecture is a mapping of fields, as embed_dim: 24.")
    values: dict[str, Any] = {
        str(name): tuple(value) if isinstance(value, list) else value for name, value in file.data.items()
    }
    try:
        return Architecture.of(**values).canonical()
    except ArchitectureError as error:
        raise file.error((), str(error)) from None


def _timed(network: Architecture, resolution: int, num_classes: int = 1000) -> TimedNetwork:
    text, macs = format_architecture(network), count_macs(network, resolution=resolution, num_classes=num_classes)
    return TimedNetwork(text=text, network=network, resolution=resolution, num_classes=num_classes, macs=macs)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedArchitecture(NamedNetwork):
    """An architecture: without weights, but for those published."""

    found: Architecture

    @property
    def architecture(self) -> Architecture:
        """The canonical architecture."""
        return self.found

    def classifier(self, *, weights: Path | None = None, device: str = "cpu") -> Classifier:
        """Return it with the weights of a file, or those that are published."""
        if weights is not None:
            return _of_weights(f"{format_architecture(self.found)} ({weights.name})", weights, device, self.found)
        name = next((name for name in _PUBLISHED if presets()[name] == self.found), None)
        if name is None:
            raise EvaluationError(
                f"There are no published weights of {self.text}: those of {', '.join(_PUBLISHED)} are. Name a file "
                "with --weights, or a study's trial as STUDY:NUMBER."
            )
        return Classifier.of_module(f"{name} (published weights)", _published(name), device)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTrial(NamedNetwork):
    """A trial of a study: its `row` of the study's table, and what the study's file and record say.

    The weights lie in `folder`, which is None for a study named by its storage alone.
    """

    study: str
    folder: Path | None
    number: int
    row: Mapping[str, Any]
    spec: StudySpec
    attributes: Mapping[str, Any]

    @property
    def architecture(self) -> Architecture:
        """The canonical architecture."""
        return parse_architecture(str(self.row["architecture_text"]))

    @property
    def fidelity(self) -> Fidelity:
        """The fidelity at which it was judged."""
        return self.spec.fidelity

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the recipe's fields that the study searched, or that are the trial's own."""
        prefix = "params_recipe."
        names = [name.removeprefix(prefix) for name, value in self.row.items() if name.startswith(prefix)]
        return tuple(dict.fromkeys([*names, *json.loads(self.row["recipe"])]))

    @property
    def recipe(self) -> Recipe:
        """The study's recipe with the trial's searched values, for as many epochs as the trial had."""
        # What differs from the study's recipe stands in the row as it was.
        changes = json.loads(self.row["recipe"])
        changes |= {name: tuple(value) for name, value in changes.items() if isinstance(value, list)}
        found = replace(self.spec.recipe, **changes)
        return replace(found, epochs=self.fidelity.epochs or found.epochs)

    @property
    def validated(self) -> Validated:
        """How the study prepared its images, and the classes of its data."""
        from starsearch.data.preprocessing import Preprocessing, Validated

        known = {"orientation": "stored", **self.attributes["preprocessing"]}
        channels = {name: tuple(known[name]) for name in ("mean", "std")}
        fidelity = {"resolution": self.fidelity.resolution, "crop_pct": self.fidelity.crop_pct}
        return Validated(
            preprocessing=Preprocessing(**{**known, **channels, **fidelity}),
            classes=tuple(self.attributes.get("classes", ())),
        )

    def load(self) -> Network:
        """Return the network with the weights that the study kept."""
        from starsearch.training.weight_file import load_weights

        if self.folder is None:
            raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
        kept = self.row.get("weights")
        if not isinstance(kept, str):
            raise StudyError(
                f"The weights of trial {self.number} were not kept ({self.row['state'].lower()}): a study keeps those "
                "of its front and anchors, or of the trial that is nearest to its constraints. Choose one of these, "
                "or set keep_weights: all in a new study."
            )
        try:
            return load_weights(self.folder / kept)
        except Exception as error:  # safetensors' own errors are no OSError; the file is not what the run wrote
            raise StudyError(f"The weights {kept} of trial {self.number} cannot be read: {error}") from error

    def for_timing(self, resolution: int | None = None) -> TimedNetwork:
        """Return it as the study deploys it."""
        num_classes = len(self.attributes.get("classes", ())) or 1000
        return _timed(self.architecture, resolution or self.spec.space.resolution, num_classes)

    def _classifier(self, device: str) -> Classifier:
        text = f"{self.text} ({self.row['architecture_text']})"
        return Classifier.of_module(text, self.load(), device, self.validated)


def open_trial(study: str, number: int) -> StudyTrial:
    """Return a trial of a study at its highest fidelity."""
    from starsearch.api.study import load_study

    view = load_study(study).view
    rows = view.trials[view.trials["number"] == number].to_dict("records")
    if not rows:
        there = f"it has 0 to {len(view.trials) - 1}" if len(view.trials) else "it has none yet"
        raise StudyError(f"The study {study} has no trial {number}; {there}.")
    if view.spec is None or not isinstance(rows[0]["architecture_text"], str):
        raise StudyError(f"Trial {number} of {study} was made by another program: it has no architecture.")
    return StudyTrial(
        text=f"{study}:{number}",
        study=view.name,
        folder=view.folder,
        number=number,
        row={str(column): value for column, value in rows[0].items()},
        spec=view.spec,
        attributes=view.attributes,
    )


class _TimmNetwork(NamedNetwork):
    """timm:NAME, with published weights or those of a file."""

    @property
    def name(self) -> str:
        import timm

        name = self.text.removeprefix(_TIMM)
        bare = name.partition(".")[0]
        if not timm.is_model(bare):
            raise EvaluationError(
                f"timm {timm.__version__} has no model {name!r}.{did_you_mean(bare, timm.list_models())} "
                f"List some: python -c \"import timm; print(timm.list_models('*{bare[:6]}*'))\""
            )
        return name

    def for_timing(self, resolution: int | None = None) -> TimedNetwork:
        import timm

        module: Any = timm.create_model(self.name, pretrained=False).eval()
        config = getattr(module, "pretrained_cfg", None) or {}
        own = int(config.get("input_size", (3, _RESOLUTION, _RESOLUTION))[-1])
        return TimedNetwork(text=self.text, network=module, resolution=resolution or own)

    def classifier(self, *, weights: Path | None = None, device: str = "cpu") -> Classifier:
        import timm

        if weights is None:
            return Classifier.of_module(self.text, _published(self.name), device)
        state, name = _read_state(weights), self.name
        head = state.get(f"{getattr(timm.get_pretrained_cfg(name.partition('.')[0]), 'classifier', None)}.weight")
        arguments: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
        module: Any = timm.create_model(name, pretrained=False, **arguments)
        _fill(module, state, weights)
        return Classifier.of_module(f"{self.text} ({weights.name})", module, device)


class _OnnxFile(NamedNetwork):
    """FILE.onnx."""

    def read(self) -> bytes:
        """Read through `onnx`, which fetches weights that lie in files beside it."""
        import onnx

        path = Path(self.text)
        try:
            return bytes(onnx.load(path).SerializeToString())
        except OSError as error:
            raise EvaluationError(f"The ONNX file {path} cannot be read: {error.strerror or error}.") from error
        except Exception as error:  # protobuf's and onnx's errors share no base class
            raise EvaluationError(f"{path} is no ONNX file, or weights beside it are missing: {error}") from error

    def for_timing(self, resolution: int | None = None) -> TimedNetwork:
        if resolution is not None:
            raise EvaluationError(
                "An ONNX file has its input's size written in it; leave out the resolution, or export "
                f"{Path(self.text).name} again (starsearch export … --resolution {resolution})."
            )
        return TimedNetwork(text=Path(self.text).name, network=self.read(), resolution=None)

    def _classifier(self, device: str) -> Classifier:  # noqa: ARG002 — ONNX Runtime runs on the processor
        _check_is_file(self.text)
        return Classifier.of_onnx(Path(self.text), self.read())


class _WeightFile(NamedNetwork):
    """A file of weights that says its architecture, as starsearch writes them."""

    def _classifier(self, device: str) -> Classifier:
        _check_is_file(self.text)
        return _of_weights(None, Path(self.text), device)


class _Folder(NamedNetwork):
    """A folder that `starsearch export` wrote, or a training's: its network exported at the end, or kept until then."""

    def _classifier(self, device: str) -> Classifier:
        folder = Path(self.text)
        exported, best = folder / "timm", folder / "best.safetensors"  # as `TrainingFolder` names them
        if (folder / "config.json").is_file():
            return _of_timm_folder(folder.resolve().name, folder, device)
        if (exported / "config.json").is_file():
            return _of_timm_folder(f"{folder.resolve().name} (its best epoch)", exported, device)
        if best.is_file():
            return _of_weights(f"{folder.resolve().name} (its best epoch so far)", best, device)
        raise EvaluationError(
            f"The folder {self.text!r} holds no network: neither config.json, as `starsearch export --format timm` "
            "writes it, nor best.safetensors, as `starsearch train` does after its first epoch. Name such a "
            "folder, or a study's trial as STUDY:NUMBER."
        )


def _check_is_file(text: str) -> None:
    if not Path(text).is_file():
        raise EvaluationError(f"There is no file {text!r}.")


def _of_timm_folder(text: str, folder: Path, device: str) -> Classifier:
    import timm

    import starsearch.timm_models  # noqa: F401  # registers starsearch_starnet
    from starsearch.api.classifier import read_config

    try:
        module: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # whatever timm says about its own file format
        raise EvaluationError(f"timm cannot load the folder {str(folder)!r}: {first_line(error)}") from error
    found, said = Classifier.of_module(text, module, device), read_config(folder / "config.json")
    return replace(found, class_names=said["class_names"], orientation=said["orientation"])


def _of_weights(text: str | None, file: Path, device: str, architecture: Architecture | None = None) -> Classifier:
    model, validated = load_network(file, architecture)
    return Classifier.of_module(
        text or f"{file.name} ({format_architecture(model.architecture)})", model, device, validated
    )


def load_network(path: Path, architecture: Architecture | None = None) -> tuple[Network, Validated | None]:
    """Return the network with the weights of a file, in eval mode, and how the file says it was validated.

    Without an `architecture` it is the one that starsearch wrote into the file.
    """
    from starsearch.families.network import build_model

    state, about = _read_state(path), _metadata(path)
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
    _fill(model, state, path)
    return model.eval(), read_validated(path)


def read_validated(path: Path) -> Validated | None:
    """Return how a file's weights were validated in their training; None where it does not say."""
    return read_metadata(path, _metadata(path))


def _read_state(path: Path) -> Mapping[str, Any]:
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


def _fill(model: Any, state: Mapping[str, Any], path: Path) -> None:
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


def _published(name: str) -> Any:
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

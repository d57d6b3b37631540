"""`resolve`: a network in any of the forms a user may write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import (
    Classifier,
    fetch_published,
    fill,
    load_network,
    read_config,
    read_state,
    read_validated,
)
from starsearch.api.study_folder import open_view, place_of
from starsearch.data.preprocessing import Preprocessing, Validated
from starsearch.errors import ArchitectureError, EvaluationError, StudyError, first_line
from starsearch.families.family import Architecture, count_macs, presets
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.families.timm import TIMM, TimmArchitecture
from starsearch.resolution import Resolution, of_sides, recorded
from starsearch.yaml_file import read_yaml

if TYPE_CHECKING:
    from starsearch.families.network import Network
    from starsearch.latency.backends.backend import Network as Timed
    from starsearch.recipe import Fidelity, Recipe
    from starsearch.report.view import StudyView
    from starsearch.training.weight_file import TrainedWeights

_RESOLUTION = 224
_ONNX, _COREML, _WEIGHTS = ".onnx", ".mlpackage", (".safetensors", ".pth", ".pt", ".tar", ".bin")
_PUBLISHED = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")  # the smaller ones' weights are not published


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedNetwork:
    """A network to be timed (architectures and timm's models have random weights), and what to call it.

    An ONNX file has a `resolution` of its own, None here; only an architecture's `macs` are known.
    """

    text: str
    network: Timed
    resolution: Resolution | None
    num_classes: int = 1000
    macs: int | None = None


def resolve(text: str | Architecture) -> NamedNetwork:
    """Return the network that a text names.

    Args:
        text: an `Architecture`, a name (starnet_s1), one line (starnet:embed_dim=24,depths=2-2-8-3), a YAML file of
            fields, a study's trial (studies/starnet:7; split at the last colon before digits), timm:NAME, FILE.onnx, a
            file of weights, or a folder that `starsearch export` or `starsearch train` wrote.

    Raises:
        ArchitectureError: the text, or the file's fields, cannot be read.
        SpecError: the file is not YAML.
        StudyError: there is no such study or trial.
    """
    text = text if isinstance(text, str) else format_architecture(text)
    path, trial = Path(text), re.fullmatch(r"(.+):(\d+)", text)
    found: Architecture | StudyTrial | Path
    if text.startswith(TIMM):
        found = parse_architecture(text)
    elif path.suffix in (_ONNX, _COREML, *_WEIGHTS) or path.is_dir():
        found = path
    elif path.is_file():
        found = _read_architecture(path)
    elif trial is not None:
        found = open_trial(trial[1], int(trial[2]))
    else:
        found = parse_architecture(text)
    return NamedNetwork(text=text, found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNetwork:
    """A network that the user has named: an architecture (timm's among them), a study's trial, a file or folder."""

    text: str
    found: Architecture | StudyTrial | Path

    @property
    def trial(self) -> StudyTrial | None:
        """The trial, where the text names one."""
        return self.found if isinstance(self.found, StudyTrial) else None

    @property
    def architecture(self) -> Architecture:
        """The canonical architecture; asking for it raises `ArchitectureError` where the text names none."""
        match self.found:
            case StudyTrial():
                return self.found.architecture
            case Architecture():
                return self.found
        return parse_architecture(self.text)

    def for_timing(self, resolution: Resolution | None = None) -> TimedNetwork:
        """Return what is timed, at `resolution` or else a study's, a timm model's own, or 224."""
        match self.found:
            case TimmArchitecture(name=name):
                return _timm_for_timing(name, resolution)
            case Path(suffix=suffix) if suffix == _ONNX:
                if resolution is None:
                    return TimedNetwork(text=self.found.name, network=_read_onnx(self.found), resolution=None)
                raise EvaluationError(
                    "An ONNX file has its input's size written in it; leave out the resolution, or export "
                    f"{self.found.name} again (starsearch export … --resolution {resolution})."
                )
            case StudyTrial():
                pixels = resolution or self.found.resolution
                num_classes = len(self.found.study.attributes.get("classes", ())) or 1000
            case _:
                pixels, num_classes = resolution or _RESOLUTION, 1000
        network = self.architecture
        text, macs = format_architecture(network), count_macs(network, resolution=pixels, num_classes=num_classes)
        return TimedNetwork(text=text, network=network, resolution=pixels, num_classes=num_classes, macs=macs)

    def classifier(self, *, weights: Path | None = None, device: str = "cpu") -> Classifier:
        """Return the trained network, with the weights of a file where the form has none of its own.

        Raises:
            EvaluationError: there are no weights for it, or they cannot be read or fetched.
        """
        match self.found:
            case TimmArchitecture(name=name):
                return _timm_classifier(name, weights, device)
            case Architecture():
                return _architecture_classifier(self.text, self.found, weights, device)
        if weights is not None:
            raise EvaluationError(f"{self.text} has weights of its own; leave out --weights, or name an architecture.")
        if isinstance(self.found, StudyTrial):
            text = f"{self.text} ({self.found.row['architecture_text']})"
            return Classifier.of_module(text, self.found.load(), device, self.found.validated)
        if self.found.suffix == _COREML:
            raise EvaluationError(
                f"{self.found.name} is a Core ML package, which cannot be run here. Name what it was exported from, or "
                "the ONNX file beside it."
            )
        if self.found.is_dir():
            return _folder_classifier(self.found, device)
        if not self.found.is_file():
            raise EvaluationError(f"There is no file {self.text!r}.")
        if self.found.suffix == _ONNX:
            return Classifier.of_onnx(self.found, _read_onnx(self.found))
        return _of_weights(None, self.found, device)

    def weights(self) -> TrainedWeights:
        """Return the trained weights, for a training to begin with.

        Raises:
            EvaluationError: there are none, or they cannot be read or fetched.
        """
        from starsearch.families.timm_module import check_timm_knows
        from starsearch.training.weight_file import TrainedWeights

        classes: Sequence[str] = ()
        match self.found:
            case StudyTrial():
                state, classes = self.found.load().state_dict(), self.found.validated.classes
            case Path():
                state, classes = _read_weights(self.found)
            case TimmArchitecture(name=name):
                check_timm_knows(name)
                state = fetch_published(name).state_dict()
            case _:
                state = fetch_published(_published(self.text, self.found)).state_dict()
        return TrainedWeights(name=Path(self.text).name, state=state, classes=tuple(classes))


def _read_weights(path: Path) -> tuple[dict[str, Any], Sequence[str]]:
    """Return the state dict of a file or folder, and the names of its classes where they are known."""
    place = _find_in(path)[0] if path.is_dir() else path
    if place.suffix in (_ONNX, _COREML):
        raise EvaluationError(f"A training cannot begin with {path.name}: name what it was exported from.")
    if place.is_dir():
        return dict(read_state(place / "model.safetensors")), read_config(place / "config.json")["class_names"]
    state, validated = dict(read_state(place)), read_validated(place)
    return state, () if validated is None else validated.classes


def _read_architecture(path: Path) -> Architecture:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTrial:
    """A trial of a study, and its `row` of the study's table."""

    study: StudyView
    number: int
    row: Mapping[str, Any]

    @property
    def architecture(self) -> Architecture:
        """The canonical architecture."""
        return parse_architecture(str(self.row["architecture_text"]))

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
        found = replace(self.study.spec.recipe, **changes)
        return replace(found, epochs=self.study.spec.fidelity.epochs or found.epochs)

    @property
    def resolution(self) -> Resolution:
        """At which the network is deployed."""
        searched = self.row.get("params_resolution")
        return recorded(searched) if searched and searched == searched else self.study.spec.space.resolution

    @property
    def fidelity(self) -> Fidelity:
        """The study's fidelity, at the resolution at which the trial was trained."""
        return self.study.spec.fidelity.scaled(self.resolution, self.study.spec.space.resolution)

    @property
    def validated(self) -> Validated:
        """How the study prepared its images, and the classes of its data."""
        known = {"orientation": "stored", **self.study.attributes["preprocessing"]}
        channels = {name: tuple(known[name]) for name in ("mean", "std")}
        fidelity = {"resolution": self.fidelity.resolution, "crop_pct": self.fidelity.crop_pct}
        return Validated(
            preprocessing=Preprocessing(**{**known, **channels, **fidelity}),
            classes=tuple(self.study.attributes.get("classes", ())),
        )

    def load(self) -> Network:
        """Return the network with the weights that the study kept."""
        from starsearch.training.weight_file import load_weights

        if self.study.folder is None:
            raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
        kept = self.row.get("weights")
        if not isinstance(kept, str):
            raise StudyError(
                f"The weights of trial {self.number} were not kept ({self.row['state'].lower()}): a study keeps those "
                "of its front and anchors, or of the trial that is nearest to its constraints. Choose one of these, "
                "or set keep_weights: all in a new study."
            )
        try:
            return load_weights(self.study.folder / kept)
        except Exception as error:  # safetensors' own errors are no OSError; the file is not what the run wrote
            raise StudyError(f"The weights {kept} of trial {self.number} cannot be read: {error}") from error


def open_trial(study: str, number: int) -> StudyTrial:
    """Return a trial of a study at its highest fidelity."""
    view = open_view(place_of(study))
    rows = view.trials[view.trials["number"] == number].to_dict("records")
    if not rows:
        there = f"it has 0 to {len(view.trials) - 1}" if len(view.trials) else "it has none yet"
        raise StudyError(f"The study {study} has no trial {number}; {there}.")
    if not isinstance(rows[0]["architecture_text"], str):
        raise StudyError(f"Trial {number} of {study} was made by another program: it has no architecture.")
    row = {str(column): value for column, value in rows[0].items()}
    return StudyTrial(study=view, number=number, row=row)


def _read_onnx(path: Path) -> bytes:
    """Read through `onnx`, which fetches weights that lie in files beside it."""
    import onnx

    try:
        return bytes(onnx.load(path).SerializeToString())
    except OSError as error:
        raise EvaluationError(f"The ONNX file {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # protobuf's and onnx's errors share no base class
        raise EvaluationError(f"{path} is no ONNX file, or weights beside it are missing: {error}") from error


def _timm_for_timing(name: str, resolution: Resolution | None) -> TimedNetwork:
    from starsearch.families.timm_module import check_timm_knows
    from starsearch.latency.backends.networks import timm_network

    check_timm_knows(name)
    module = timm_network(name)
    config = getattr(module, "pretrained_cfg", None) or {}
    own = of_sides(*config.get("input_size", (3, _RESOLUTION, _RESOLUTION))[1:])
    return TimedNetwork(text=f"{TIMM}{name}", network=module, resolution=resolution or own)


def _timm_classifier(name: str, weights: Path | None, device: str) -> Classifier:
    import timm

    from starsearch.families.timm_module import check_timm_knows

    check_timm_knows(name)
    if weights is None:
        return Classifier.of_module(f"{TIMM}{name}", fetch_published(name), device)
    state = read_state(weights)
    head = state.get(f"{getattr(timm.get_pretrained_cfg(name.partition('.')[0]), 'classifier', None)}.weight")
    arguments: dict[str, Any] = {} if head is None else {"num_classes": len(head)}
    module: Any = timm.create_model(name, pretrained=False, **arguments)
    fill(module, state, weights)
    return Classifier.of_module(f"{TIMM}{name} ({weights.name})", module, device)


def _architecture_classifier(text: str, architecture: Architecture, weights: Path | None, device: str) -> Classifier:
    if weights is not None:
        return _of_weights(f"{format_architecture(architecture)} ({weights.name})", weights, device, architecture)
    name = _published(text, architecture)
    return Classifier.of_module(f"{name} (published weights)", fetch_published(name), device)


def _published(text: str, architecture: Architecture) -> str:
    """Return under which name an architecture's weights are published."""
    name = next((name for name in _PUBLISHED if presets()[name] == architecture), None)
    if name is None:
        raise EvaluationError(
            f"There are no published weights of {text}: those of {', '.join(_PUBLISHED)} are. Name a file with "
            "--weights, or a study's trial as STUDY:NUMBER."
        )
    return name


def _of_weights(text: str | None, file: Path, device: str, architecture: Architecture | None = None) -> Classifier:
    model, validated = load_network(file, architecture)
    text = text or f"{file.name} ({format_architecture(model.architecture)})"
    return Classifier.of_module(text, model, device, validated)


def _find_in(folder: Path) -> tuple[Path, str]:
    """Return where the network of an export or a training is, and which it is: of a training its best epoch's.

    That is a folder that timm loads or, until the training's end, a file.
    """
    exported, best = folder / "timm", folder / "best.safetensors"  # as `TrainingFolder` names them
    if (folder / "config.json").is_file():
        return folder, ""
    if (exported / "config.json").is_file():
        return exported, " (its best epoch)"
    if best.is_file():
        return best, " (its best epoch so far)"
    raise EvaluationError(
        f"The folder {str(folder)!r} holds no network: neither config.json, as `starsearch export --format timm` "
        "writes it, nor best.safetensors, as `starsearch train` does after its first epoch. Name such a "
        "folder, or a study's trial as STUDY:NUMBER."
    )


def _folder_classifier(folder: Path, device: str) -> Classifier:
    place, which = _find_in(folder)
    text = f"{folder.resolve().name}{which}"
    return _of_timm_folder(text, place, device) if place.is_dir() else _of_weights(text, place, device)


def _of_timm_folder(text: str, folder: Path, device: str) -> Classifier:
    import timm

    import starsearch.timm_models  # noqa: F401  # registers starsearch_starnet

    try:
        module: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # whatever timm says about its own file format
        raise EvaluationError(f"timm cannot load the folder {str(folder)!r}: {first_line(error)}") from error
    found, said = Classifier.of_module(text, module, device), read_config(folder / "config.json")
    return replace(found, class_names=said["class_names"], orientation=said["orientation"])

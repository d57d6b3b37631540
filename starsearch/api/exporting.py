"""Taking networks home: timm folders, ONNX files, Core ML packages, each read back and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.architectures import find_architecture
from starsearch.api.formats import FORMATS, NEEDS_DATA, ONNX_FORMATS, USES_DATA, TrainedNetwork, check_formats
from starsearch.api.study import open_view
from starsearch.api.study_folder import StudyPlace, place_of
from starsearch.data.source import DataSource
from starsearch.errors import ArchitectureError, DataError, ExportError, StudyError
from starsearch.families.family import Architecture, presets
from starsearch.families.text import format_architecture
from starsearch.measurement import Measurement, accuracy_measurement
from starsearch.objective import INT8_LATENCY, is_latency
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.data.preprocessing import Preprocessing
    from starsearch.families.network import Network
    from starsearch.report.view import StudyView


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One network that was written and read back.

    Attributes:
        source: where its weights come from, in words.
        architecture: one-line text.
        folder: that holds it.
        files: written.
        load: the Python line that loads it with timm; None where no timm folder was written.
        notes: what was chosen and measured on the way, a sentence each.
    """

    source: str
    architecture: str
    folder: Path
    files: tuple[Path, ...]
    load: str | None
    notes: tuple[str, ...] = ()


def export_networks(
    source: str,
    *,
    out: Path,
    trial: int | None = None,
    knee: bool = False,
    top: int | None = None,
    weights: Path | None = None,
    resolution: int | None = None,
    formats: Sequence[str] = ("timm",),
    data: str | None = None,
    pad: bool = True,
    dynamic_batch: bool = False,
) -> list[Exported]:
    """Export networks of a study, the best network of a training, or an architecture.

    Args:
        source: a study (folder, NAME@STORAGE-URL, STUDY:TRIAL), a training's folder, or an architecture as
            `find_architecture` takes it, which has random weights unless `weights` are given.
        out: folder that is made; with `top`, a folder a network inside it.
        trial: number of a study's trial whose weights were kept.
        knee: the knee of a study's front; the default.
        top: how many of a study's front, best first objective first.
        weights: file of an architecture's weights.
        resolution: of the images, in pixels; None is the one it was trained at, 224 where that is not known.
        formats: of `starsearch.api.formats.FORMATS`.
        data: the data set, as `open_data` takes it, for formats that are calibrated on it; None finds a study's or
            training's by its name. An architecture without weights takes its classes from it.
        pad: pad the channels of an ONNX file to this machine's vector width, where that measures faster here.
        dynamic_batch: let ONNX files take any number of images at once.

    Raises:
        StudyError: no such study or trial, or its weights were not kept.
        ArchitectureError, SpecError: `source` names nothing.
        ExportError: something cannot be written or does not read back as the model, or the data set is not found.
        DataError: the data set named cannot be opened.
        EvaluationError: weights cannot be read, or ONNX Runtime cannot run an exported network on this machine.
    """
    check_formats(formats)
    if dynamic_batch and not set(ONNX_FORMATS).intersection(formats):
        raise ExportError(f"--dynamic-batch is for ONNX files: add --format {' or '.join(ONNX_FORMATS)}.")
    given = {"--trial": trial is not None, "--knee": knee, "--top": top is not None}
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise ExportError("Choose one of --trial, --knee and --top.")
    named = None if Path(source).exists() else re.fullmatch(r"(.+):(\d+)", source)
    if named and not chosen:
        source, trial = named[1], int(named[2])
    architecture = None if named else _architecture_of(source)
    if architecture is None and weights is not None:
        raise ExportError(f"{source} has weights of its own; leave out --weights, or name an architecture.")
    is_training = _is_training(Path(source))
    if chosen and (is_training or architecture is not None):
        raise ExportError(f"{chosen[0]} chooses among the trials of a study, and {source} is none.")
    if architecture is not None:
        found = [_of_architecture(architecture, weights, data, resolution, formats=formats)]
    elif is_training:
        found = [_of_training(Path(source), data, formats=formats)]
    else:
        found = _of_study(source, trial, top, data, formats=formats)
    changes: dict[str, Any] = {} if resolution is None else {"resolution": resolution}
    return [
        _export(
            replace(
                one,
                facts=replace(one.facts, formats=tuple(formats), preprocessing=replace(one.preprocessing, **changes)),
                fidelity=replace(one.fidelity, **changes),
                pad=pad,
                dynamic_batch=dynamic_batch,
            ),
            out / f"trial-{one.origin['trial']}" if top is not None else out,
        )
        for one in found
    ]


def _is_training(path: Path) -> bool:
    return any((path / name).is_file() for name in ("best.safetensors", "last.pt", "recipe.yaml"))


def _architecture_of(source: str) -> Architecture | None:
    """Return the architecture that the text names; None where it is a folder or a study's name."""
    if Path(source).is_dir() or "@" in source:
        return None
    try:
        return find_architecture(source)
    except ArchitectureError as error:
        try:
            place_of(source)  # studies/NAME.FIDELITY is no folder
        except StudyError as no_study:
            raise StudyError(f"Nothing to export: {no_study} Nor is it an architecture: {error}") from None
        return None


def _of_architecture(
    architecture: Architecture,
    weights: Path | None,
    data: str | None,
    resolution: int | None,
    *,
    formats: Sequence[str],
) -> TrainedNetwork:
    """Return the architecture with the weights of a file, or with random ones."""
    from starsearch.api.weight_files import load_starnet, read_validated
    from starsearch.data import open_data
    from starsearch.data.preprocessing import Preprocessing, Validated
    from starsearch.export import CardFacts, needs_starsearch

    if data is None and NEEDS_DATA.intersection(formats):
        raise ExportError("An int8 network is calibrated on images: name a data set with --data.")
    dataset = None if data is None else open_data(data)
    fidelity = Fidelity(name="full", resolution=resolution or 224, crop_pct=0.875)
    validated = None
    if weights is None:
        model = _untrained(architecture, 1000 if dataset is None else len(dataset.classes), fidelity.resolution)
    else:
        model, validated = load_starnet(weights, architecture), read_validated(weights)
    if validated is None and dataset is not None and len(dataset.classes) == model.num_classes:
        validated = Validated.on(dataset, fidelity)
    validated = validated or Validated(preprocessing=Preprocessing(), classes=())
    source = "random weights, not trained" if weights is None else f"weights of {weights.name}"
    return TrainedNetwork(
        model=model,
        facts=CardFacts(
            source=source,
            anchor=next((name for name, anchor in presets().items() if anchor.canonical() == architecture), None),
            preprocessing=validated.preprocessing,
            num_classes=model.num_classes,
            stem_stride=model.stem_stride,
            latency_resolution=validated.preprocessing.resolution,
            needs_starsearch=needs_starsearch(model),
        ),
        class_names=tuple(validated.classes),
        origin={"weights": source, "architecture": format_architecture(architecture)},
        fidelity=replace(
            fidelity, resolution=validated.preprocessing.resolution, crop_pct=validated.preprocessing.crop_pct
        ),
        data=dataset,
        is_trained=weights is not None,
    )


def _untrained(architecture: Architecture, num_classes: int, resolution: int) -> Network:
    """Return the network with weights that keep its numbers in range, so that files can be compared with it."""
    import numpy as np
    import torch

    from starsearch.export import random_weights
    from starsearch.families.network import build_model

    model = build_model(architecture, num_classes=num_classes)
    drawn = random_weights(model.lower(resolution=resolution), np.random.default_rng(0))
    model.load_state_dict({key: torch.from_numpy(value) for key, value in drawn.items()}, strict=False)
    return model.eval()


def _of_training(folder: Path, data: str | None, *, formats: Sequence[str]) -> TrainedNetwork:
    """Return the best network of a training so far."""
    from starsearch.api.training_folder import TrainingFolder
    from starsearch.api.weight_files import load_starnet, read_validated
    from starsearch.export import CardFacts, needs_starsearch
    from starsearch.yaml_file import read_yaml

    files = TrainingFolder(folder)
    best = files.best_row()
    if best is None or not files.best.is_file():
        raise StudyError(f"The training in {folder} has no network yet: its first epoch has not ended.")
    model, validated = load_starnet(files.best), read_validated(files.best)
    assert validated is not None, "a training says how it validates"
    summary = files.read_summary() if (folder / "summary.json").is_file() else {}
    trained_on = summary.get("data")
    preprocessing, images = validated.preprocessing, summary.get("validation_images")
    accuracies = {"top1_percent": best["top1"], "top5_percent": best["top5"]}
    name = folder.resolve().name
    return TrainedNetwork(
        model=model,
        facts=CardFacts(
            source=f"training {name}, epoch {best['epoch']:.0f}",
            data=trained_on,
            preprocessing=preprocessing,
            num_classes=model.num_classes,
            stem_stride=model.stem_stride,
            recipe=read_yaml(folder / "recipe.yaml").data,
            fidelity={key: summary[key] for key in ("resolution", "crop_pct", "epochs") if key in summary},
            seed=summary.get("seed"),
            accuracies=tuple(
                Measurement(name=key, value=value)
                if images is None
                else accuracy_measurement(key, value, num_images=images)
                for key, value in accuracies.items()
            ),
            latency_resolution=preprocessing.resolution,
            needs_starsearch=needs_starsearch(model),
        ),
        class_names=tuple(validated.classes),
        origin={"training": name, "architecture": format_architecture(model.architecture)},
        fidelity=Fidelity(name="full", resolution=preprocessing.resolution, crop_pct=preprocessing.crop_pct),
        data=_open_data(data, trained_on, trained_on, formats),
    )


def _of_study(
    source: str, trial: int | None, top: int | None, data: str | None, *, formats: Sequence[str]
) -> list[TrainedNetwork]:
    """Return a trial, the knee, or the first of the front."""
    place = place_of(source)
    if place.folder is None:
        raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
    view = open_view(place)
    place = replace(place, name=view.name, folder=view.folder)  # of the highest fidelity
    numbers = _chosen(view, trial=trial, top=top)
    attributes = dict(view.attributes)
    # Before anything is written: the user may have to say where it is.
    known = _signed(attributes, "").get("data", attributes["data"])
    dataset = _open_data(data, attributes["data"], known, formats)
    return [_of_trial(place, view, number, attributes, dataset) for number in numbers]


def _chosen(view: StudyView, *, trial: int | None, top: int | None) -> list[int]:
    if trial is not None:
        if trial not in set(view.trials["number"]):
            there = f"it has 0 to {len(view.trials) - 1}" if len(view.trials) else "it has none yet"
            raise StudyError(f"The study has no trial {trial}; {there}.")
        return [trial]
    if view.knee is None and view.miss:
        from starsearch.report.summary import miss_lines

        raise StudyError(" ".join(miss_lines(view.miss)))
    if view.knee is None:
        raise StudyError("The study has no front yet: no trial is complete and feasible.")
    if top is None:
        return [view.knee]
    first = view.objectives[0]
    front = view.front[view.front["on_front"]].sort_values(first.name, ascending=first.direction == "minimize")
    return [int(number) for number in front["number"][:top]]


def _of_trial(
    place: StudyPlace, view: StudyView, number: int, attributes: dict[str, Any], data: DataSet | None
) -> TrainedNetwork:
    found = view.trials[view.trials["number"] == number].to_dict("records")[0]
    row = {str(column): value for column, value in found.items()}
    model = load_trained(place, number, row)
    return TrainedNetwork(
        model=model,
        facts=_card_facts(place, number, row, attributes, model),
        class_names=tuple(attributes.get("classes", ())),
        origin={"study": place.name, "trial": str(number), "architecture": row["architecture_text"]},
        fidelity=_fidelity(attributes),
        data=data,
    )


def _export(trained: TrainedNetwork, out: Path) -> Exported:
    # In the formats' own order: timm replaces the whole folder.
    written = [write(trained, out) for name, write in FORMATS.items() if name in trained.facts.formats]
    files = [path for one in written for path in one.files]
    if "timm" not in trained.facts.formats:
        files.append(_write_card(trained, out))
    warning = () if trained.is_trained else ("The weights are random. Name trained ones with --weights.",)
    return Exported(
        source=trained.facts.source,
        architecture=trained.origin["architecture"],
        folder=out,
        files=tuple(dict.fromkeys(files)),
        load=next((one.load for one in written if one.load), None),
        notes=(*(note for one in written for note in one.notes), *warning),
    )


def _write_card(trained: TrainedNetwork, folder: Path) -> Path:
    from starsearch.export.files import export_written_whole
    from starsearch.export.timm import CARD_FILE

    with export_written_whole(folder / CARD_FILE) as partial:
        partial.write_text(trained.card, encoding="utf-8")
    return folder / CARD_FILE


def _open_data(data: str | None, recorded: str | None, known: str | None, formats: Sequence[str]) -> DataSet | None:
    """The data set of a training where a format uses it; None where none does, or one can do without what is not found.

    Raises:
        ExportError: as `_find_data`.
    """
    if not USES_DATA.intersection(formats):
        return None
    try:
        return _find_data(data, recorded, known)
    except ExportError:
        if data is not None or NEEDS_DATA.intersection(formats):
            raise
        return None


def _find_data(data: str | None, recorded: str | None, known: str | None) -> DataSet:
    """The data set of a training, found by `data` or else by the name that was recorded.

    Args:
        data: as the user names it.
        recorded: name and options that were recorded; a fingerprint may follow.
        known: that holds its fingerprint; None where that was not recorded yet.

    Raises:
        ExportError: it is not found by its name, or what was found is another data set.
    """
    from starsearch.data import open_data

    name = (recorded or "").rpartition(" (")[0] or recorded
    asked = _read_alike(data, name) if data and name else data or name
    if asked is None:
        raise ExportError("An int8 network is calibrated on the data set it was trained on: name it with --data.")
    try:
        found = open_data(asked)
    except DataError as error:
        if data is not None:
            raise
        raise ExportError(
            f"An int8 network is calibrated on the data set it was trained on ({known}), which is not found by its "
            "name: name it with --data, as for starsearch run."
        ) from error
    if known is not None and found.fingerprint not in known:
        raise ExportError(
            f"An int8 network is calibrated on the data set it was trained on ({known}); {data or found.name!r} is "
            f"another one ({found.fingerprint}). Name that one with --data."
        )
    return found


def _read_alike(data: str, recorded: str) -> str:
    """Return the data set's text; one without options takes those that the study recorded."""
    source = DataSource.parse(data)
    return data if str(source) != source.path else DataSource.parse(recorded).named(source.path)


def load_trained(place: StudyPlace, number: int, row: dict[str, Any]) -> Network:
    """The network of a trial with the weights that its study kept.

    Args:
        place: of the study, with its folder.
        number: of the trial.
        row: its line of the study's table.

    Raises:
        StudyError: its weights were not kept, or cannot be read.
    """
    from starsearch.training.weight_file import load_weights

    assert place.folder is not None
    kept = row.get("weights")
    if not isinstance(kept, str):
        raise StudyError(
            f"The weights of trial {number} were not kept ({row['state'].lower()}): a study keeps those of its front "
            "and anchors, or of the trial that is nearest to its constraints. Choose one of these, or set "
            "keep_weights: all in a new study."
        )
    try:
        return load_weights(place.folder / kept)
    except Exception as error:
        # safetensors' own errors are no OSError; whatever it is, the file is not what the run wrote.
        raise StudyError(f"The weights {kept} of trial {number} cannot be read: {error}") from error


def _signed(attributes: dict[str, Any], prefix: str) -> dict[str, str]:
    signature: dict[str, str] = attributes.get("signature", {})
    return {key.removeprefix(prefix): value for key, value in signature.items() if key.startswith(prefix)}


def preprocessing_of(attributes: dict[str, Any]) -> Preprocessing:
    """What images went through before a study's networks saw them, from the study's attributes."""
    from starsearch.data.preprocessing import Preprocessing

    known, fidelity = attributes["preprocessing"], _signed(attributes, "fidelity.")
    return Preprocessing(
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        interpolation=known["interpolation"],
        resolution=int(fidelity["resolution"]),
        crop_pct=float(fidelity.get("crop_pct", 1.0)),
        orientation=known.get("orientation", "stored"),
    )


def _fidelity(attributes: dict[str, Any]) -> Fidelity:
    """Of the study's fidelity, what validation follows from."""
    signed = _signed(attributes, "fidelity.")
    samples = signed.get("validation_samples", "None")
    return Fidelity(
        name=signed.get("name", "proxy"),
        resolution=int(signed["resolution"]),
        crop_pct=float(signed.get("crop_pct", 1.0)),
        validation_samples=None if samples == "None" else int(samples),
    )


def _card_facts(place: StudyPlace, number: int, row: dict[str, Any], attributes: dict[str, Any], model: Network) -> Any:
    from starsearch.export import CardFacts, needs_starsearch
    from starsearch.export.card import ACCURACIES
    from starsearch.records import reading_names, recorded_reading

    known = {key: value for key, value in row.items() if not _is_missing(value)}
    readings = [recorded_reading(known, name) for name in reading_names(known)]
    fidelity = {k: v for k, v in _signed(attributes, "fidelity.").items() if v != "None"}
    recipe = _signed(attributes, "recipe.") | json.loads(row["recipe"])
    # What was searched is the trial's own, and the fidelity's epochs stand above the recipe's.
    searched = {key.removeprefix("params_recipe."): row[key] for key in row if key.startswith("params_recipe.")}
    recipe |= searched | ({"epochs": fidelity["epochs"]} if "epochs" in fidelity else {})
    return CardFacts(
        source=f"trial {number} of study {place.name}",
        anchor=_text(row.get("anchor")),
        data=_signed(attributes, "").get("data", row["data"]),
        preprocessing=preprocessing_of(attributes),
        num_classes=model.num_classes,
        stem_stride=model.stem_stride,
        recipe=recipe,
        fidelity=fidelity,
        seed=int(row["seed"]),
        accuracies=tuple(one for one in readings if isinstance(one, Measurement) and one.name in ACCURACIES),
        latencies=tuple(one for one in readings if is_latency(one.name) or one.name == INT8_LATENCY),
        latency_resolution=int(_signed(attributes, "space.").get("resolution", 224)),
        needs_starsearch=needs_starsearch(model),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN is not equal to itself

"""Taking networks home: timm folders, ONNX files, Core ML packages, each read back and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.formats import FORMATS, NEEDS_DATA, USES_DATA, TrainedNetwork, check_formats
from starsearch.api.reading import FrontView, view_of
from starsearch.api.study_folder import StudyPlace, place_of
from starsearch.data.source import DataSource
from starsearch.errors import DataError, ExportError, StudyError
from starsearch.measurement import Reading
from starsearch.objective import INT8_LATENCY, is_latency
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.export import Preprocessing
    from starsearch.models import StarNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One network that was written and read back.

    Attributes:
        trial: its number.
        architecture: one-line text.
        folder: that holds it.
        files: written.
        load: the Python line that loads it with timm; None where no timm folder was written.
        notes: what was chosen and measured on the way, a sentence each.
    """

    trial: int
    architecture: str
    folder: Path
    files: tuple[Path, ...]
    load: str | None
    notes: tuple[str, ...] = ()


def export_study(
    study: str,
    *,
    out: Path,
    trial: int | None = None,
    knee: bool = False,
    top: int | None = None,
    formats: Sequence[str] = ("timm",),
    data: str | None = None,
    pad: bool = True,
) -> list[Exported]:
    """Export a trial, the front's knee (the default), or the `top` most accurate networks of the front.

    Args:
        study: folder or NAME@STORAGE-URL.
        out: folder that is made; with `top`, a folder a network inside it.
        trial: number of a trial whose weights were kept.
        knee: the front's knee.
        top: how many of the front, best first objective first.
        formats: of `starsearch.api.formats.FORMATS`.
        data: the study's data set, as `open_data` takes it, for formats that are calibrated on it; None finds it by
            the name it has in the study.
        pad: pad the channels of an ONNX file to this machine's vector width, where that measures faster here.

    Raises:
        StudyError: no such study or trial, or its weights were not kept.
        ExportError: something cannot be written or does not read back as the model, or the data set is not found.
        DataError: the data set named cannot be opened.
        EvaluationError: ONNX Runtime cannot run an exported network on this machine.
    """
    from starsearch.records import load_attributes

    _check_choice(formats, trial=trial, knee=knee, top=top)
    place = place_of(study)
    if place.folder is None:
        raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
    view = view_of(place)
    place = view.place  # of the highest fidelity
    numbers = _chosen(view, trial=trial, top=top)
    attributes = load_attributes(place.url, place.name)
    # Before anything is written: the user may have to say where it is.
    dataset = None
    if USES_DATA.intersection(formats):
        try:
            dataset = _open_data(data, attributes)
        except ExportError:
            if data is not None or NEEDS_DATA.intersection(formats):
                raise
    return [
        _export_trial(
            place,
            view,
            number,
            out / f"trial-{number}" if top is not None else out,
            attributes=attributes,
            formats=formats,
            data=dataset,
            pad=pad,
        )
        for number in numbers
    ]


def _check_choice(formats: Sequence[str], *, trial: int | None, knee: bool, top: int | None) -> None:
    check_formats(formats)
    if sum((trial is not None, knee, top is not None)) > 1:
        raise ExportError("Choose one of --trial, --knee and --top.")


def _chosen(view: FrontView, *, trial: int | None, top: int | None) -> list[int]:
    if trial is not None:
        if trial not in set(view.trials["number"]):
            there = f"it has 0 to {len(view.trials) - 1}" if len(view.trials) else "it has none yet"
            raise StudyError(f"The study has no trial {trial}; {there}.")
        return [trial]
    if view.knee is None:
        raise StudyError("The study has no front yet: no trial is complete and feasible.")
    if top is None:
        return [view.knee]
    first = view.objectives[0]
    front = view.front[view.front["on_front"]].sort_values(first.name, ascending=first.direction == "minimize")
    return [int(number) for number in front["number"][:top]]


def _export_trial(
    place: StudyPlace,
    view: FrontView,
    number: int,
    out: Path,
    *,
    attributes: dict[str, Any],
    formats: Sequence[str],
    data: DataSet | None,
    pad: bool,
) -> Exported:
    found = view.trials[view.trials["number"] == number].to_dict("records")[0]
    row = {str(column): value for column, value in found.items()}
    model = load_trained(place, number, row)
    trained = TrainedNetwork(
        model=model,
        facts=_card_facts(place, number, row, attributes, model),
        preprocessing=preprocessing_of(attributes),
        class_names=tuple(attributes.get("classes", ())),
        metadata={"architecture": row["architecture_text"]},
        fidelity=_fidelity(attributes),
        data=data,
        pad=pad,
    )
    # In the formats' own order: timm replaces the whole folder.
    written = [write(trained, out) for name, write in FORMATS.items() if name in formats]
    files = [path for one in written for path in one.files]
    if "timm" not in formats:
        files.append(_write_card(trained, out))
    return Exported(
        trial=number,
        architecture=row["architecture_text"],
        folder=out,
        files=tuple(files),
        load=next((one.load for one in written if one.load), None),
        notes=tuple(note for one in written for note in one.notes),
    )


def _write_card(trained: TrainedNetwork, folder: Path) -> Path:
    from starsearch.export.files import replaced_when_done
    from starsearch.export.timm import CARD_FILE

    with replaced_when_done(folder / CARD_FILE) as partial:
        partial.write_text(trained.card, encoding="utf-8")
    return folder / CARD_FILE


def _open_data(data: str | None, attributes: dict[str, Any]) -> DataSet:
    """The study's data set, found by `data` or else by the name the study knows it by.

    Raises:
        ExportError: it is not found by its name, or what was found is another data set.
    """
    from starsearch.data import open_data

    known = _signed(attributes, "").get("data", attributes["data"])
    try:
        found = open_data(attributes["data"] if data is None else _read_alike(data, attributes["data"]))
    except DataError as error:
        if data is not None:
            raise
        raise ExportError(
            f"An int8 network is calibrated on the study's data set ({known}), which is not found by its name: name it "
            "with --data, as for starsearch run."
        ) from error
    if found.fingerprint not in known:
        raise ExportError(
            f"An int8 network is calibrated on the data set it was trained on ({known}); {data or found.name!r} is "
            f"another one ({found.fingerprint}). Name the study's with --data."
        )
    return found


def _read_alike(data: str, recorded: str) -> str:
    """Return the data set's text; one without options takes those that the study recorded."""
    source = DataSource.parse(data)
    return data if str(source) != source.path else DataSource.parse(recorded).named(source.path)


def load_trained(place: StudyPlace, number: int, row: dict[str, Any]) -> StarNet:
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
            "and anchors. Choose one of these, or set keep_weights: all in a new study."
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
    from starsearch.export import Preprocessing

    known, fidelity = attributes["preprocessing"], _signed(attributes, "fidelity.")
    return Preprocessing(
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        interpolation=known["interpolation"],
        resolution=int(fidelity["resolution"]),
        crop_pct=float(fidelity.get("crop_pct", 1.0)),
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


def _card_facts(place: StudyPlace, number: int, row: dict[str, Any], attributes: dict[str, Any], model: StarNet) -> Any:
    from starsearch.export import CardFacts
    from starsearch.export.timm import needs_starsearch

    fidelity = {k: v for k, v in _signed(attributes, "fidelity.").items() if v != "None"}
    recipe = _signed(attributes, "recipe.") | json.loads(row["recipe"])
    # What was searched is the trial's own, and the fidelity's epochs stand above the recipe's.
    searched = {key.removeprefix("params_recipe."): row[key] for key in row if key.startswith("params_recipe.")}
    recipe |= searched | ({"epochs": fidelity["epochs"]} if "epochs" in fidelity else {})
    return CardFacts(
        study=place.name,
        trial=number,
        anchor=_text(row.get("anchor")),
        data=_signed(attributes, "").get("data", row["data"]),
        resolution=int(fidelity["resolution"]),
        in_chans=model.in_chans,
        num_classes=model.num_classes,
        stem_stride=model.stem_stride,
        recipe=recipe,
        fidelity=fidelity,
        seed=int(row["seed"]),
        top1_percent=_number(row.get("top1_percent")),
        top5_percent=_number(row.get("top5_percent")),
        int8_top1_percent=_number(row.get("int8_top1_percent")),
        latencies=_latencies(row),
        latency_resolution=int(_signed(attributes, "space.").get("resolution", 224)),
        needs_starsearch=needs_starsearch(model),
    )


def _latencies(row: dict[str, Any]) -> tuple[Reading, ...]:
    """What is known of the trial's latencies, in the order of the record's columns."""
    from starsearch.records import reading_names, recorded_reading

    known = {key: value for key, value in row.items() if not _is_missing(value)}
    names = (name for name in reading_names(known) if is_latency(name) or name == INT8_LATENCY)
    return tuple(recorded_reading(known, name) for name in names)


def _number(value: Any) -> float | None:
    return None if _is_missing(value) else float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN is not equal to itself

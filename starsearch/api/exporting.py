"""Taking networks home: timm folders, ONNX files, Core ML packages, each read back and compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.api.classifier import load_network
from starsearch.api.networks import StudyTrial, open_trial, resolve
from starsearch.api.study_folder import open_view, place_of
from starsearch.api.training_job import TrainingFolder
from starsearch.data import DataSet, open_data
from starsearch.data.preprocessing import Preprocessing, Validated
from starsearch.data.source import DataSource
from starsearch.errors import ArchitectureError, DataError, ExportError, StudyError
from starsearch.evaluators.int8 import calibration_images, measure_onnx_top1
from starsearch.export.card import ACCURACIES, model_card
from starsearch.export.format import CARD_FILE, Format, TrainedNetwork, write_format, write_text
from starsearch.export.formats import find_formats, formats
from starsearch.export.formats.timm import needs_starsearch
from starsearch.export.hub import check_repository, push
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import FloatArray, state_dict_arrays
from starsearch.families.family import Architecture, presets
from starsearch.families.layers import Layer
from starsearch.families.text import format_architecture
from starsearch.families.timm import TIMM
from starsearch.latency.backends.networks import as_module
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.device import vector_width
from starsearch.latency.lock import computing
from starsearch.latency.padded import choose_padding
from starsearch.latency.paired import COPIES, Copies, PairedTiming, measure_paired
from starsearch.measurement import Measurement, trained_accuracies
from starsearch.objective import INT8_LATENCY, is_accuracy, is_latency
from starsearch.progress import follow
from starsearch.recipe import Fidelity
from starsearch.records.table import reading_names, recorded_reading
from starsearch.report.summary import miss_lines
from starsearch.resolution import Resolution
from starsearch.yaml_file import read_yaml

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One network that was written and read back.

    Attributes:
        source: where its weights come from, in words.
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
    resolution: Resolution | None = None,
    formats: Sequence[str] = ("timm",),
    data: str | None = None,
    pad: bool = True,
    dynamic_batch: bool = False,
    push_to_hub: str | None = None,
) -> list[Exported]:
    """Export networks of a study, the best network of a training, or an architecture.

    Args:
        source: a study (folder, NAME@STORAGE-URL, STUDY:TRIAL), a training's folder, or an architecture as
            `resolve` takes it, which has random weights unless `weights` are given.
        out: the folder to make; with `top`, it holds a folder per network.
        trial: the number of a study's trial whose weights were kept.
        knee: take the knee of a study's front; the default.
        top: how many of a study's front, best first objective first.
        weights: a file of an architecture's weights.
        resolution: of the images; None is the one it was trained at, 224 where that is not known.
        formats: names of `starsearch.export.formats.formats`.
        data: the data set, as `open_data` takes it, for formats that are calibrated on it; None finds a study's or
            training's by its name. An architecture without weights takes its classes from it.
        pad: pad the channels of an ONNX file to this machine's vector width, where that measures faster here.
        dynamic_batch: let ONNX files take any number of images at once.
        push_to_hub: the repository USER/NAME to make on the Hugging Face hub, private, and to put the folder into.

    Raises:
        StudyError: no such study or trial, or its weights were not kept.
        ArchitectureError, SpecError: `source` names nothing.
        ExportError: something cannot be written or does not read back as the model, the data set is not found, or the
            hub refuses.
        DataError: the data set named cannot be opened.
        EvaluationError: weights cannot be read, or ONNX Runtime cannot run an exported network on this machine.
    """
    forms = find_formats(formats)
    _check_option("--dynamic-batch", dynamic_batch, forms)
    chosen = [option for option, given in {"--trial": trial is not None, "--knee": knee, "--top": top}.items() if given]
    if len(chosen) > 1:
        raise ExportError("Choose one of --trial, --knee and --top.")
    _check_hub(push_to_hub, top, formats)
    path, named = Path(source), re.fullmatch(r"(.+):(\d+)", source)
    if named and not chosen and not path.exists():
        source, trial = named[1], int(named[2])
    architecture = None if named else _architecture_of(source)
    if architecture is None and weights is not None:
        raise ExportError(f"{source} has weights of its own; leave out --weights, or name an architecture.")
    is_training = any((path / name).is_file() for name in ("best.safetensors", "last.pt", "recipe.yaml"))
    if chosen and (is_training or architecture is not None):
        raise ExportError(f"{chosen[0]} chooses among the trials of a study, and {source} is none.")
    if architecture is not None:
        found = [_of_architecture(architecture, weights, data, resolution, forms)]
    elif is_training:
        found = [of_training(path, data, forms)]
    else:
        numbers = [trial] if trial is not None else front_numbers(source, top)
        found = [_of_trial(open_trial(source, number), data, forms) for number in numbers]
    exported = []
    for network, dataset, fidelity in found:
        refuse_timm(network.origin["architecture"])
        if resolution is not None:
            fidelity = replace(fidelity, resolution=resolution)
            network = replace(network, preprocessing=replace(network.preprocessing, resolution=resolution))
        network = replace(network, dynamic_batch=dynamic_batch, hub=push_to_hub or "")
        network = with_data(network, dataset, fidelity)
        folder = out / f"trial-{network.origin['trial']}" if top is not None else out
        for form in forms:
            form.check(folder / form.file)
        exported.append((network, folder))
    return [write_network(network, folder, forms, pad=pad) for network, folder in exported]


def refuse_timm(architecture: str) -> None:
    """Refuse to export a baseline: formats and card are written from layers, which are known of our families alone."""
    if architecture.startswith(TIMM):
        raise ExportError(
            f"{architecture} is a model of timm's, which starsearch trains beside a study's networks and "
            "does not export. Its trained weights load with timm.create_model("
            f"{architecture.removeprefix(TIMM)!r}, num_classes=…, checkpoint_path='….safetensors')."
        )


def _check_option(option: str, given: bool, forms: Iterable[Format]) -> None:
    """Refuse an option that none of the formats follows."""
    able = [name for name, form in formats().items() if option in form.options]
    if given and not any(form.name in able for form in forms):
        raise ExportError(f"{option} is for ONNX files: add --format {' or '.join(able)}.")


def _check_hub(repository: str | None, top: int | None, formats: Sequence[str]) -> None:
    """Refuse what cannot be pushed, before anything is exported."""
    if repository is None:
        return
    if top is not None or "timm" not in formats:
        raise ExportError("--push-to-hub takes one network, as timm loads it: leave --top out, add --format timm.")
    check_repository(repository)


# A network to export, the data set it was trained on, and how it is validated.
_Found = tuple[TrainedNetwork, "DataSet | None", Fidelity]


def _architecture_of(source: str) -> Architecture | None:
    """Return the architecture that the text names; None where it is a folder or a study's name."""
    if Path(source).is_dir() or "@" in source:
        return None
    try:
        return resolve(source).architecture
    except ArchitectureError as error:
        try:
            place_of(source)  # studies/NAME.FIDELITY is no folder
        except StudyError as no_study:
            raise StudyError(f"Nothing to export: {no_study} Nor is it an architecture: {error}") from None
        return None


def front_numbers(study: str, top: int | None) -> list[int]:
    """Return the knee of a study's front, or its first `top` trials."""
    view = open_view(place_of(study))
    if view.knee is None and (missed := miss_lines(view.summary)):
        raise StudyError(" ".join(missed))
    if view.knee is None:
        raise StudyError("The study has no front yet: no trial is complete and feasible.")
    front = without_baselines(view.front[view.front["on_front"]])
    if top is None:
        if view.knee not in set(front["number"]):
            raise StudyError(f"The knee, trial {view.knee}, is a baseline of timm's. Choose with --trial or --top.")
        return [view.knee]
    first = next((one for one in view.objectives if is_accuracy(one.name)), view.objectives[0])
    front = front.sort_values(first.name, ascending=first.direction == "minimize")
    return [int(number) for number in front["number"][:top]]


def without_baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of networks that are the space's, not timm's."""
    return rows[~rows["architecture_text"].str.startswith(TIMM)]


def _of_architecture(
    architecture: Architecture,
    weights: Path | None,
    data: str | None,
    resolution: Resolution | None,
    forms: Sequence[Format],
) -> _Found:
    """Return the architecture with the weights of a file, or with random ones."""
    if data is None and any(form.needs_data for form in forms):
        raise ExportError("An int8 network is calibrated on images: name a data set with --data.")
    dataset = None if data is None else open_data(data)
    fidelity = Fidelity(name="full", resolution=resolution or 224, crop_pct=0.875)
    if weights is None:
        # Random ones keep the network's numbers in range, so that files can be compared with it.
        classes, rng = 1000 if dataset is None else len(dataset.classes), np.random.default_rng(0)
        drawn: Any = as_module(architecture, resolution=fidelity.resolution, rng=rng, num_classes=classes)
        model, validated = drawn, None
    else:
        model, validated = load_network(weights, architecture)
    if validated is None and dataset is not None and len(dataset.classes) == model.num_classes:
        validated = Validated.on(dataset, fidelity)
    validated = validated or Validated(preprocessing=Preprocessing(), classes=())
    prepared = validated.preprocessing
    source = "random weights, not trained" if weights is None else f"weights of {weights.name}"
    network = TrainedNetwork(
        model=model,
        source=source,
        origin={"weights": source, "architecture": format_architecture(architecture)},
        preprocessing=prepared,
        class_names=tuple(validated.classes),
        is_trained=weights is not None,
        anchor=next((name for name, anchor in presets().items() if anchor.canonical() == architecture), None),
        latency_resolution=prepared.resolution,
    )
    return network, dataset, replace(fidelity, resolution=prepared.resolution, crop_pct=prepared.crop_pct)


def of_training(folder: Path, data: str | None, forms: Sequence[Format]) -> _Found:
    """Return the best network of a training so far."""
    files = TrainingFolder(folder)
    best = files.best_row()
    if best is None or not files.best.is_file():
        raise StudyError(f"The training in {folder} has no network yet: its first epoch has not ended.")
    model, validated = load_network(files.best)
    assert validated is not None, "a training says how it validates"
    summary = files.read_summary() if (folder / "summary.json").is_file() else {}
    trained_on, images = summary.get("data"), summary.get("validation_images")
    prepared, name = validated.preprocessing, folder.resolve().name
    network = TrainedNetwork(
        model=model,
        source=f"training {name}, epoch {best['epoch']:.0f}",
        origin={"training": name, "architecture": format_architecture(model.architecture)},
        preprocessing=prepared,
        class_names=tuple(validated.classes),
        data=trained_on,
        recipe=read_yaml(folder / "recipe.yaml").data,
        fidelity={key: summary[key] for key in ("resolution", "crop_pct", "epochs") if key in summary},
        seed=summary.get("seed"),
        accuracies=tuple(
            trained_accuracies(best["top1"], best["top5"], num_images=images, num_classes=len(validated.classes))
        ),
        latency_resolution=prepared.resolution,
    )
    fidelity = Fidelity(name="full", resolution=prepared.resolution, crop_pct=prepared.crop_pct)
    return network, _open_data(data, trained_on, trained_on, forms), fidelity


def _of_trial(trial: StudyTrial, data: str | None, forms: Sequence[Format]) -> _Found:
    """Return a study's trial with what the record says of it."""
    spec, row = (
        trial.study.spec,
        {key: value for key, value in trial.row.items() if value is not None and value == value},
    )
    known = trial.study.attributes["conditions"].get("data", spec.data)
    # Before anything is written: the user may have to say where it is.
    dataset = _open_data(data, spec.data, known, forms)
    readings = [recorded_reading(row, name) for name in reading_names(row)]
    model, validated = trial.load(), trial.validated
    network = TrainedNetwork(
        model=model,
        source=f"trial {trial.number} of study {trial.study.name}",
        origin={
            "study": trial.study.name,
            "trial": str(trial.number),
            "architecture": format_architecture(trial.architecture),
        },
        preprocessing=validated.preprocessing,
        class_names=tuple(validated.classes),
        anchor=row.get("anchor"),
        data=known,
        recipe=asdict(trial.recipe),
        fidelity={key: value for key, value in asdict(trial.fidelity).items() if value is not None},
        seed=int(row["seed"]),
        accuracies=tuple(one for one in readings if isinstance(one, Measurement) and one.name in ACCURACIES),
        latencies=tuple(one for one in readings if is_latency(one.name) or one.name == INT8_LATENCY),
        latency_resolution=trial.resolution,
    )
    return network, dataset, trial.fidelity


def _open_data(data: str | None, recorded: str | None, known: str | None, forms: Collection[Format]) -> DataSet | None:
    """Return the data set of a training where a format uses it; None where it is not found and none needs it.

    It is `data` if the user names one, else what was `recorded` (name and options, a fingerprint may follow); `known`
    holds its fingerprint, or is None where that was not recorded yet.
    """
    if not any("--data" in form.options for form in forms):
        return None
    name = (recorded or "").rpartition(" (")[0] or recorded
    asked = data or name
    if data and name and str(DataSource.parse(data)) == DataSource.parse(data).path:
        asked = DataSource.parse(name).named(data)  # one without options takes those that were recorded
    try:
        found = open_data(asked) if asked else None
    except DataError:
        if data is not None:
            raise
        found = None
    if found is not None and (known is None or found.fingerprint in known):
        return found
    if data is None and not any(form.needs_data for form in forms):
        return None
    calibrated = "An int8 network is calibrated on the data set it was trained on" + (f" ({known})" if known else "")
    if found is None:
        raise ExportError(f"{calibrated}, which is not found by its name: name it with --data, as for starsearch run.")
    other = f"{data or found.name!r} is another one ({found.fingerprint})"
    raise ExportError(f"{calibrated}; {other}. Name that one with --data.")


def with_data(network: TrainedNetwork, data: DataSet | None, fidelity: Fidelity) -> TrainedNetwork:
    """Return the network with what calibrates and judges it, where its data set is there."""
    seed, resolution = network.seed or 0, network.preprocessing.resolution
    if data is None:
        return network

    def images() -> Iterable[FloatArray]:
        return follow(calibration_images(data, resolution=resolution, seed=seed))

    return replace(network, calibration=images, judge=partial(_judge_int8, network, data, fidelity))


def _judge_int8(network: TrainedNetwork, data: DataSet, fidelity: Fidelity, graph: bytes) -> list[str]:
    """Measure a graph in 8-bit integers: its top-1, and its time by that in float32."""
    notes = []
    # Of random weights, or of other classes than the data's, a top-1 says nothing.
    if network.is_trained and len(data.classes) == network.model.num_classes:
        top1 = follow(measure_onnx_top1(graph, data=data, fidelity=fidelity, seed=network.seed or 0))
        recorded = next((one.value for one in network.accuracies if one.name == "top1_percent"), None)
        against = "" if recorded is None else f", {recorded:.2f} % in float32"
        notes.append(f"top-1 {top1.value:.2f} ± {top1.spread:.2f} % of {top1.runs:,} validation images{against}.")
    paired = time_int8(network, graph)
    low, high = paired.interval.low, paired.interval.high
    return [*notes, f"here it takes {paired.ratio:.2f} times as long as in float32 (95 %: {low:.2f} to {high:.2f})."]


def time_int8(network: TrainedNetwork, graph: bytes) -> PairedTiming:
    """Time a graph of the network in 8-bit integers against its own in float32, on this machine."""
    rng = np.random.default_rng(0)
    graphs = graph, build_onnx(*_lower(network))
    int8, float32 = (Copies(partial(OnnxRuntimeTimer, onnx_bytes, rng=rng), COPIES) for onnx_bytes in graphs)
    return follow(measure_paired(int8, float32, rng=rng))


def _lower(network: TrainedNetwork) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    return network.model.lower(resolution=network.preprocessing.resolution), state_dict_arrays(network.model)


def write_network(
    network: TrainedNetwork,
    out: Path,
    forms: Sequence[Format],
    *,
    pad: bool = True,
    skipped: dict[str, str] | None = None,
    before: Callable[[str, str], None] = lambda _verb, _format: None,
) -> Exported:
    """Write a network in formats, with its card; a format that cannot be written is an error, or `skipped` with why.

    `before` is called with "writing" and each format's name; what it raises ends the export.
    """
    files: list[Path] = []
    notes: list[str] = []
    written: list[str] = []
    for form in forms:
        before("writing", form.name)
        try:
            network, new, said = _write(network, form, out, pad=pad)
        except ExportError as error:
            if skipped is None or isinstance(error.__cause__, OSError):  # the disk is full, whatever the format
                raise
            skipped[form.name] = str(error)
            continue
        written.append(form.name)
        files += new
        notes += said
    network = replace(network, formats=tuple(written))
    write_text(out / CARD_FILE, model_card(network))
    if not network.is_trained:
        notes.append("The weights are random. Name trained ones with --weights.")
    imports = "import starsearch.timm_models, timm" if needs_starsearch(network.model) else "import timm"
    load = f"{imports}; model = timm.create_model('local-dir:{out}', pretrained=True)"
    if network.hub:
        notes.append(f"On the hub, private until you publish it there: {push(out, network.hub)}")
    return Exported(
        source=network.source,
        architecture=network.origin["architecture"],
        folder=out,
        files=tuple(dict.fromkeys([*files, out / CARD_FILE])),
        load=load if "timm" in network.formats else None,
        notes=tuple(notes),
    )


def _write(
    network: TrainedNetwork, form: Format, out: Path, *, pad: bool
) -> tuple[TrainedNetwork, list[Path], list[str]]:
    notes = []
    if pad and "--pad" in form.options:
        layers, weights = _lower(network)
        rng = np.random.default_rng(0)
        choice = follow(choose_padding(layers, weights, multiple=vector_width(), rng=rng))
        network = replace(network, multiple=choice.multiple)
        notes.append(f"{form.file}: {choice.text}")
    written, said = write_format(network, form, out, computing=computing)
    return network, written, [*notes, *said]

"""Taking networks home: timm folders and ONNX files, each read back and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.reading import FrontView, view_of
from starsearch.api.study_folder import StudyPlace, place_of
from starsearch.errors import ExportError, StudyError, did_you_mean

if TYPE_CHECKING:
    from starsearch.models import StarNet

FORMATS = ("timm", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One network that was written and read back.

    Attributes:
        trial: its number.
        architecture: one-line text.
        folder: that holds it.
        files: written.
        load: the Python line that loads it with timm; None where no timm folder was written.
    """

    trial: int
    architecture: str
    folder: Path
    files: tuple[Path, ...]
    load: str | None


def export_study(
    study: str,
    *,
    out: Path,
    trial: int | None = None,
    knee: bool = False,
    top: int | None = None,
    formats: Sequence[str] = ("timm",),
) -> list[Exported]:
    """Export a trial, the front's knee (the default), or the `top` most accurate networks of the front.

    Args:
        study: folder or NAME@STORAGE-URL.
        out: folder that is made; with `top`, a folder a network inside it.
        trial: number of a trial whose weights were kept.
        knee: the front's knee.
        top: how many of the front, best first objective first.
        formats: of `FORMATS`.

    Raises:
        StudyError: no such study or trial, or its weights were not kept.
        ExportError: something cannot be written or does not read back as the model.
    """
    _check_choice(formats, trial=trial, knee=knee, top=top)
    place = place_of(study)
    if place.folder is None:
        raise StudyError("Trained weights lie in the study's folder: name the folder, not the storage.")
    view = view_of(place)
    numbers = _chosen(view, trial=trial, top=top)
    return [
        _export_trial(place, view, number, out / f"trial-{number}" if top is not None else out, formats)
        for number in numbers
    ]


def _check_choice(formats: Sequence[str], *, trial: int | None, knee: bool, top: int | None) -> None:
    for name in formats:
        if name not in FORMATS:
            raise ExportError(f"Unknown format {name!r}.{did_you_mean(name, FORMATS)} Known: {', '.join(FORMATS)}.")
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


def _export_trial(place: StudyPlace, view: FrontView, number: int, out: Path, formats: Sequence[str]) -> Exported:
    from starsearch.export import export_onnx, export_timm, model_card
    from starsearch.export.timm import CARD_FILE, ONNX_FILE
    from starsearch.records import load_attributes

    found = view.trials[view.trials["number"] == number].to_dict("records")[0]
    row = {str(column): value for column, value in found.items()}
    attributes = load_attributes(place.url, place.name)
    model = _load_trained(place, number, row)
    written: list[Path] = []
    load = None
    facts = _card_facts(place, number, row, attributes, model)
    card = model_card(model.architecture, facts)
    if "timm" in formats:
        preprocessing = _preprocessing(attributes)
        export_timm(model, out, preprocessing=preprocessing, class_names=attributes.get("classes", ()), card=card)
        written += sorted(out.iterdir())
        needs = "import starsearch, timm" if facts.needs_starsearch else "import timm"
        load = f"{needs}; model = timm.create_model('local-dir:{out}', pretrained=True)"
    if "onnx" in formats:
        out.mkdir(parents=True, exist_ok=True)
        path = out / ONNX_FILE
        export_onnx(model, path, resolution=facts.resolution, metadata={"architecture": row["architecture_text"]})
        written.append(path)
        if "timm" not in formats:
            (out / CARD_FILE).write_text(card, encoding="utf-8")
            written.append(out / CARD_FILE)
    return Exported(trial=number, architecture=row["architecture_text"], folder=out, files=tuple(written), load=load)


def _load_trained(place: StudyPlace, number: int, row: dict[str, Any]) -> StarNet:
    from starsearch.evaluators.proxy import load_weights

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


def _preprocessing(attributes: dict[str, Any]) -> Any:
    from starsearch.export import Preprocessing

    known = attributes["preprocessing"]
    return Preprocessing(
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        interpolation=known["interpolation"],
        resolution=int(_signed(attributes, "fidelity.")["resolution"]),
        crop_pct=1.0,
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
        latency_ms=_number(row.get("latency_ms")),
        latency_spread_ms=_number(row.get("latency_ms_spread")),
        latency_pairs=int(row["latency_ms_runs"]) if _number(row.get("latency_ms_runs")) else None,
        latency_device=_text(row.get("latency_ms_device")),
        latency_resolution=int(_signed(attributes, "space.").get("resolution", 224)),
        needs_starsearch=needs_starsearch(model),
    )


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)  # NaN is not equal to itself


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

"""The model card of an exported network: README.md as the Hugging Face hub reads it."""

from __future__ import annotations

import html
import re
from pathlib import Path

from starsearch.export.format import TrainedNetwork
from starsearch.export.formats.timm import needs_starsearch
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.fields import rules_of
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.objective import LATENCY, device_label
from starsearch.resolution import Resolution, sides

ACCURACIES = {"top1_percent": "top-1", "top5_percent": "top-5", "int8_top1_percent": "top-1 as int8"}
_TEMPLATE = Path(__file__).with_name("card.md.jinja")


def model_card(network: TrainedNetwork) -> str:
    """Return the text of README.md: Markdown with the hub's YAML front matter."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 — not HTML
    environment.filters |= {"cell": cell, "number": "{:g}".format}
    architecture = network.model.architecture.canonical()
    rules = rules_of(type(architecture))
    training = [("data", network.data), *((f"fidelity: {name}", value) for name, value in network.fidelity.items())]
    training += [("seed", network.seed)] if network.seed is not None else []
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        front_matter=_front_matter(network, architecture),
        network=network,
        prepared=network.preprocessing,
        sides=sides(network.preprocessing.resolution),
        needs_starsearch=needs_starsearch(network.model),
        text=format_architecture(architecture),
        hash=architecture_hash(architecture),
        title=architecture.title,
        results=_results(network, architecture),
        stages=_stages(architecture),
        fields={name: getattr(architecture, name) for name, rule in rules.items() if not rule.per_stage},
        training=[*training, *network.recipe.items()],
    )


def _front_matter(network: TrainedNetwork, architecture: Architecture) -> str:
    """Return the card's metadata in the hub's own form; what weights may be used for is not known here."""
    from huggingface_hub import EvalResult, ModelCardData

    data = (network.data or "").partition(" (")[0].partition(":")[0]
    on_hub = re.fullmatch(r"(?:hfds/)?([\w.-]+/[\w.-]+|imagenet-1k)", data)
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=on_hub[1] if on_hub else "image-folder",
            dataset_name=data,
            metric_type="accuracy",
            metric_name=f"{ACCURACIES[one.name]} (%)",
            metric_value=round(one.value, 2),
        )
        for one in network.accuracies
        if data
    ]
    found = ModelCardData(
        license="unknown",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", architecture.title.lower(), "neural-architecture-search"],
        datasets=[on_hub[1]] if on_hub else None,
        metrics=["accuracy"] if results else None,
        model_name=network.anchor or f"{architecture.family}-{architecture_hash(architecture)}",
        eval_results=results or None,
    )
    return found.to_yaml()


def cell(value: object) -> str:
    """Return a cell of a Markdown table: text in one line, in which nothing is markup of HTML or of the table."""
    return " ".join(html.escape(str(value), quote=False).replace("|", "\\|").split())


def _results(network: TrainedNetwork, architecture: Architecture) -> list[tuple[str, str]]:
    resolution, classes = network.latency_resolution, network.model.num_classes

    def counted(num_classes: int) -> tuple[str, str]:
        stem_stride = network.model.stem_stride
        macs = count_macs(architecture, resolution=resolution, num_classes=num_classes, stem_stride=stem_stride)
        return f"{macs / 1e6:,.1f} M", f"{count_params(architecture, num_classes=num_classes) / 1e6:,.3f} M"

    (macs, num_params), (published_macs, published_params) = counted(classes), counted(1000)
    if classes != 1000:
        macs = f"{macs} ({published_macs} with ImageNet's 1,000 classes, as papers count)"
        num_params = f"{num_params} ({published_params} with ImageNet's 1,000 classes)"
    return [
        *((ACCURACIES[one.name], _accuracy(one)) for one in network.accuracies),
        *((_latency_name(one.name), _latency(one, resolution)) for one in network.latencies),
        (f"MACs at {resolution} px (convolutions and head)", macs),
        ("parameters", num_params),
    ]


def _accuracy(one: Measurement) -> str:
    spread = "" if one.spread is None else f" ± {one.spread:.2f} % of {one.runs:,} images"
    return f"{one.value:.2f}{spread or ' %'}"


def _latency_name(name: str) -> str:
    """Return the quantity in words: "latency", "latency @phone", "latency as int8"."""
    label = device_label(name)
    if label is not None:
        return f"latency @{label}"
    return "latency" if name == LATENCY else "latency as int8"


def _latency(one: Reading, resolution: Resolution) -> str:
    """Return value, spread, device and how it was found out: a latency alone says nothing."""
    if isinstance(one, Prediction):
        return (
            f"≈ {one.value:.3f} ms predicted for {one.device}, {one.low:.3f}–{one.high:.3f} "
            f"(90 % interval; batch 1, {resolution} px)"
        )
    spread = f" ± {one.spread:.3f}" if one.spread is not None else ""
    pairs = f", {one.runs} paired readings" if one.runs > 1 else ""
    device = f" on {one.device}" if one.device else ""
    return f"{one.value:.3f}{spread} ms{device} (batch 1, {resolution} px{pairs})"


def _stages(network: Architecture) -> list[tuple[object, ...]]:
    """Return the table of stages with its heading: every field that each stage has a value of."""
    rules = {name: rule for name, rule in rules_of(type(network)).items() if rule.per_stage}
    rows: list[tuple[object, ...]] = [("stage", *(name.replace("_", " ") for name in rules))]
    for stage, depth in enumerate(network.depths):
        values = {name: network.written_out(name)[stage] for name in rules}
        cells = ("–" if rules[name].of_blocks and not depth else value for name, value in values.items())
        rows.append((stage + 1, *cells))
    return rows

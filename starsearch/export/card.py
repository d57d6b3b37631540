"""The model card of an exported network: README.md as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starsearch.data.preprocessing import Preprocessing
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.objective import LATENCY, device_label

_CITATION = """@inproceedings{ma2024rewrite,
  title     = {Rewrite the Stars},
  author    = {Ma, Xu and Dai, Xiyang and Bai, Yue and Wang, Yizhou and Fu, Yun},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024}
}"""
_FRONT_MATTER = """---
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- starnet
- neural-architecture-search
---"""
_LICENSE = (
    "Weights: not stated; mind the license of the data they were trained on. The code that defines the network "
    "(timm, starsearch) is Apache-2.0."
)
_WITH_TIMM = """```python
import timm

model = timm.create_model("local-dir:PATH/OF/THIS/FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```"""
_WITH_MODEL_SCRIPT = f"""timm's StarNet cannot express this network; `model.py` has it in plain PyTorch:

```python
from model import CLASS_NAMES, load  # in this folder; needs torch and safetensors

model = load()
```

timm loads it too after `import starsearch`. Install that from its source, `pip install PATH/OR/URL/OF/ITS/CHECKOUT`: on
PyPI the name belongs to another project.

{_WITH_TIMM.replace("import timm", "import starsearch, timm")}"""
ACCURACIES = {"top1_percent": "top-1", "top5_percent": "top-5", "int8_top1_percent": "top-1 as int8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What is known of an exported model besides its architecture. What is None is left out of the card.

    Attributes:
        source: where the weights come from, in words: "trial 7 of study flowers", "random weights".
        anchor: the published name, if it is one.
        data: what it was trained on.
        preprocessing: what images go through before the exported network sees them.
        formats: in which it is exported; they decide how it is loaded.
        num_classes: outputs of the head.
        stem_stride: of the exported network.
        recipe: how it was trained, by field.
        fidelity: how much was spent on it, by field ("name", "epochs", "samples" …).
        seed: of its training.
        accuracies: on the validation images: "top1_percent", "top5_percent", "int8_top1_percent".
        latencies: of one image at `latency_resolution`, measured or predicted: "latency_ms", "latency_ms@LABEL",
            "int8_latency_ms".
        latency_resolution: that they are about, in pixels.
        needs_starsearch: whether timm loads it only with starsearch.
    """

    source: str
    anchor: str | None = None
    data: str | None = None
    preprocessing: Preprocessing
    formats: Collection[str] = ("timm",)
    num_classes: int
    stem_stride: int = 2
    recipe: Mapping[str, object] = field(default_factory=dict)
    fidelity: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    accuracies: tuple[Measurement, ...] = ()
    latencies: tuple[Reading, ...] = ()
    latency_resolution: int = 224
    needs_starsearch: bool = False


def model_card(architecture: Architecture, facts: CardFacts) -> str:
    """The text of README.md, in Markdown with the hub's YAML front matter."""
    sections = (
        _FRONT_MATTER,
        f"# {facts.source[0].upper()}{facts.source[1:]}",
        _origin(architecture, facts),
        "## Results\n\n" + _table(("quantity", "value"), _results(architecture, facts)) + _legend(facts),
        "## How to load it\n\n" + _loading(facts),
        "## Architecture\n\n" + _architecture(architecture),
        *(["## Training\n\n" + _training(facts)] if facts.data else []),
        f"## License and citation\n\n{_LICENSE}\n\n```bibtex\n{_CITATION}\n```",
    )
    return "\n\n".join(sections) + "\n"


def _origin(architecture: Architecture, facts: CardFacts) -> str:
    what = f"The published {facts.anchor}" if facts.anchor else "A network of the StarNet family"
    trained = f", trained on {facts.data}" if facts.data else ""
    return (
        f"{what}: {facts.source}{trained}. Written by starsearch.\n\n"
        f"    {format_architecture(architecture)}\n\nHash `{architecture_hash(architecture)}`."
    )


def _results(architecture: Architecture, facts: CardFacts) -> list[tuple[str, str]]:
    resolution, stem_stride = facts.latency_resolution, facts.stem_stride

    def counted(num_classes: int) -> tuple[str, str]:
        macs = count_macs(architecture, resolution=resolution, num_classes=num_classes, stem_stride=stem_stride)
        return f"{macs / 1e6:,.1f} M", f"{count_params(architecture, num_classes=num_classes) / 1e6:,.3f} M"

    (macs, num_params), (published_macs, published_params) = counted(facts.num_classes), counted(1000)
    if facts.num_classes != 1000:
        macs = f"{macs} ({published_macs} with ImageNet's 1,000 classes, as papers count)"
        num_params = f"{num_params} ({published_params} with ImageNet's 1,000 classes)"
    return [
        *((ACCURACIES[one.name], _accuracy(one)) for one in facts.accuracies),
        *((_latency_name(one.name), _latency(one, resolution)) for one in facts.latencies),
        (f"MACs at {resolution} px (convolutions and head)", macs),
        ("parameters", num_params),
    ]


def _accuracy(one: Measurement) -> str:
    if one.spread is None:
        return f"{one.value:.2f} %"
    return f"{one.value:.2f} ± {one.spread:.2f} % of {one.runs:,} images"


def _legend(facts: CardFacts) -> str:
    if all(one.spread is None for one in facts.accuracies):
        return ""
    return "\n\n± of an accuracy is the standard error of the validation images; another seed may differ by more."


def _latency_name(name: str) -> str:
    """The quantity in words: "latency", "latency @phone", "latency as int8"."""
    label = device_label(name)
    if label is not None:
        return f"latency @{label}"
    return "latency" if name == LATENCY else "latency as int8"


def _latency(one: Reading, resolution: int) -> str:
    """Value, spread, device and how it was found out: a latency alone says nothing."""
    if isinstance(one, Prediction):
        return (
            f"≈ {one.value:.3f} ms predicted for {one.device}, {one.low:.3f}–{one.high:.3f} "
            f"(90 % interval; batch 1, {resolution} px)"
        )
    spread = f" ± {one.spread:.3f}" if one.spread is not None else ""
    pairs = f", {one.runs} paired readings" if one.runs > 1 else ""
    device = f" on {one.device}" if one.device else ""
    return f"{one.value:.3f}{spread} ms{device} (batch 1, {resolution} px{pairs})"


def _loading(facts: CardFacts) -> str:
    parts = []
    if "timm" in facts.formats:
        parts += [_WITH_MODEL_SCRIPT if facts.needs_starsearch else f"With timm alone:\n\n{_WITH_TIMM}"]
        parts += ["`python run_torch.py PICTURE` classifies a picture."]
    if {"onnx", "onnx-int8"}.intersection(facts.formats):
        parts.append(
            "`python run_onnx.py PICTURE` classifies a picture by the ONNX file, whose metadata hold preprocessing "
            "and class names."
        )
    return "\n\n".join([*parts, _prepared(facts.preprocessing)])


def _prepared(prepared: Preprocessing) -> str:
    upright = "turned upright as its EXIF tag says" if prepared.orientation == "exif" else "as it is stored"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (prepared.mean, prepared.std))
    return (
        f"A picture, {upright} and laid over white where it is transparent, is resized ({prepared.interpolation}) "
        f"until its shorter side has {int(prepared.resolution / prepared.crop_pct)} pixels, cropped to the "
        f"{prepared.resolution}×{prepared.resolution} in its middle, and normalised (mean {mean}; std {std} of values "
        "in 0..1). Core ML packages normalise by themselves."
    )


def _architecture(architecture: Architecture) -> str:
    canonical: Any = architecture.canonical()
    rows = [
        (
            str(stage + 1),
            str(canonical.stage_widths[stage]),
            str(depth),
            *(_block_facts(canonical, stage) if depth else ("–",) * 4),
        )
        for stage, depth in enumerate(canonical.depths)
    ]
    heading = ("stage", "width", "blocks", "operation", "activation", "hidden channels", "depthwise kernel")
    return f"Stem of {canonical.stem_width} channels; activation function {canonical.act_type}.\n\n" + _table(
        heading, rows
    )


def _block_facts(architecture: Any, stage: int) -> tuple[str, str, str, str]:
    kernel_size = architecture.kernel_size[stage]
    placement = architecture.activation[stage]
    activation = "none" if placement == "none" else f"{architecture.act_type}, {placement}"
    return (
        architecture.ops[stage],
        activation,
        str(architecture.hidden_width(stage)),
        f"{kernel_size}×{kernel_size}",
    )


def _training(facts: CardFacts) -> str:
    """Data, fidelity, seed and recipe, one field a row."""
    rows = [("data", str(facts.data))]
    rows += [(f"fidelity: {name}", str(value)) for name, value in facts.fidelity.items()]
    rows += [("seed", str(facts.seed))] if facts.seed is not None else []
    rows += [(name, str(value)) for name, value in facts.recipe.items()]
    return _table(("field", "value"), rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks within a cell are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

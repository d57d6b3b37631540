"""The model card of an exported network: README.md as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starsearch.architecture import Architecture, architecture_hash, count_macs, count_params, format_architecture
from starsearch.measurement import Prediction, Reading
from starsearch.objective import LATENCY, device_label

_CITATION = """@inproceedings{ma2024rewrite,
  title     = {Rewrite the Stars},
  author    = {Ma, Xu and Dai, Xiyang and Bai, Yue and Wang, Yizhou and Fu, Yun},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024}
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What is known of an exported model besides its architecture. What is None is left out of the card.

    Attributes:
        title: of the card; the study and trial by default.
        study: name of the study the model comes from.
        trial: its number in the study.
        anchor: the published name, if it is one.
        data: what it was trained on.
        resolution: that it was trained and validated at, in pixels.
        in_chans: channels of an image.
        num_classes: outputs of the head.
        stem_stride: of the exported network.
        recipe: how it was trained, by field.
        fidelity: how much was spent on it, by field ("name", "epochs", "samples" …).
        seed: of its training.
        top1_percent, top5_percent: on the validation images.
        int8_top1_percent: of the network made int8, on the same images.
        latencies: of one image at `latency_resolution`, measured or predicted: "latency_ms", "latency_ms@LABEL",
            "int8_latency_ms".
        latency_resolution: that they are about, in pixels.
        onnx_difference: of the ONNX file's logits from torch's, by their spread.
        needs_starsearch: whether loading takes `import starsearch`.
        license: of the weights, as the hub spells it.
    """

    title: str | None = None
    study: str | None = None
    trial: int | None = None
    anchor: str | None = None
    data: str
    resolution: int
    in_chans: int = 3
    num_classes: int
    stem_stride: int = 2
    recipe: Mapping[str, object] = field(default_factory=dict)
    fidelity: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    top1_percent: float | None = None
    top5_percent: float | None = None
    int8_top1_percent: float | None = None
    latencies: tuple[Reading, ...] = ()
    latency_resolution: int = 224
    onnx_difference: float | None = None
    needs_starsearch: bool = False
    license: str | None = None


def model_card(architecture: Architecture, facts: CardFacts) -> str:
    """The text of README.md, in Markdown with the hub's YAML front matter."""
    sections = (
        _front_matter(facts),
        f"# {_title(facts)}",
        _origin(architecture, facts),
        "## Results\n\n" + _table(("quantity", "value"), _results(architecture, facts)),
        "## How to load it\n\n" + _loading(facts),
        "## Architecture\n\n" + _architecture(architecture),
        "## Training\n\n" + _training(facts),
        "## License and citation\n\n" + _license(facts) + f"\n\n```bibtex\n{_CITATION}\n```",
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts) -> str:
    license_line = [f"license: {facts.license}"] if facts.license else []
    tags = ["tags:", "- image-classification", "- timm", "- starnet", "- neural-architecture-search"]
    return "\n".join(["---", *license_line, "library_name: timm", "pipeline_tag: image-classification", *tags, "---"])


def _title(facts: CardFacts) -> str:
    if facts.title:
        return facts.title
    where = f" of study {facts.study}" if facts.study else ""
    return f"Trial {facts.trial}{where}" if facts.trial is not None else "A StarNet"


def _origin(architecture: Architecture, facts: CardFacts) -> str:
    what = f"The published {facts.anchor}" if facts.anchor else "A network of the StarNet family"
    found = f", trial {facts.trial} of the study `{facts.study}`" if facts.study and facts.trial is not None else ""
    return (
        f"{what}{found}, trained on {facts.data} at {facts.resolution}×{facts.resolution} pixels. "
        "Written by starsearch.\n\n"
        f"    {format_architecture(architecture)}\n\nHash `{architecture_hash(architecture)}`."
    )


def _results(architecture: Architecture, facts: CardFacts) -> list[tuple[str, str]]:
    macs = count_macs(
        architecture,
        resolution=facts.latency_resolution,
        num_classes=facts.num_classes,
        in_chans=facts.in_chans,
        stem_stride=facts.stem_stride,
    )
    num_params = count_params(architecture, num_classes=facts.num_classes, in_chans=facts.in_chans)
    rows = [
        ("top-1", _percent(facts.top1_percent)),
        ("top-5", _percent(facts.top5_percent)),
        ("top-1 as int8", _percent(facts.int8_top1_percent)),
        *((_latency_name(one.name), _latency(one, facts.latency_resolution)) for one in facts.latencies),
        (f"MACs at {facts.latency_resolution} px (convolutions and head)", f"{macs / 1e6:,.1f} M"),
        ("parameters", f"{num_params / 1e6:,.3f} M"),
        ("ONNX against PyTorch, by the logits' spread", _scientific(facts.onnx_difference)),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} %"


def _scientific(value: float | None) -> str | None:
    return None if value is None else f"{value:.1e}"


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
    register = "import starsearch  # registers its networks with timm\n" if facts.needs_starsearch else ""
    who = (
        "timm's StarNet cannot express this network, so `pip install starsearch` besides timm:"
        if facts.needs_starsearch
        else "With timm alone:"
    )
    code = (
        f"import timm\n{register}\n"
        'model = timm.create_model("local-dir:PATH/OF/THIS/FOLDER", pretrained=True).eval()\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
    )
    return f"{who}\n\n```python\n{code}\n```"


def _architecture(architecture: Architecture) -> str:
    canonical = architecture.canonical()
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


def _block_facts(architecture: Architecture, stage: int) -> tuple[str, str, str, str]:
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
    rows = [("data", facts.data)]
    rows += [(f"fidelity: {name}", str(value)) for name, value in facts.fidelity.items()]
    rows += [("seed", str(facts.seed))] if facts.seed is not None else []
    rows += [(name, str(value)) for name, value in facts.recipe.items()]
    return _table(("field", "value"), rows)


def _license(facts: CardFacts) -> str:
    weights = facts.license or "not stated; mind the license of the data they were trained on"
    return f"Weights: {weights}. The code that defines the network (timm, starsearch) is Apache-2.0."


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks within a cell are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

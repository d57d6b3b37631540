"""A trained model as a folder that timm loads: `timm.create_model("local-dir:DIR", pretrained=True)`."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.files import export_written_whole
from starsearch.export.verification import deployed_copy, random_images, torch_logits
from starsearch.families.family import Architecture, presets
from starsearch.families.text import format_architecture

if TYPE_CHECKING:
    from starsearch.families.network import Network

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
ONNX_FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
COREML_PACKAGE, COREML_FP32_PACKAGE = "model.mlpackage", "model.fp32.mlpackage"
MODEL_SCRIPT, RUN_SCRIPT, RUN_ONNX_SCRIPT = "model.py", "run_torch.py", "run_onnx.py"
_OWN_FILES = {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, MODEL_SCRIPT, RUN_SCRIPT, "__pycache__"}
# That may lie beside a timm export.
_OTHER_FORMATS = {ONNX_FILE, INT8_FILE, RUN_ONNX_SCRIPT, COREML_PACKAGE, COREML_FP32_PACKAGE}
# An entry of config.json that timm passes over; it tells an export from other people's files.
_MARK = "starsearch"


def script(name: str) -> str:
    """The text of a script that lies beside an export and needs no starsearch."""
    return (Path(__file__).parent / "beside" / name).read_text(encoding="utf-8")


def timm_arguments(architecture: Architecture) -> dict[str, Any] | None:
    """Keywords of timm's own StarNet that build this network, or None where timm cannot express it."""
    canonical: Any = architecture.canonical()
    with_blocks = [stage for stage, depth in enumerate(canonical.depths) if depth]
    ratios = {canonical.mlp_ratio[stage] for stage in with_blocks} or {4}
    expressible = (
        canonical.widths is None
        and canonical.stem_width == 32
        and canonical.act_type == "relu6"
        and set(canonical.ops) == {"star"}
        and set(canonical.activation) == {"one"}
        and set(canonical.kernel_size) == {7}
        and len(ratios) == 1
        and all(isinstance(ratio, int) for ratio in ratios)
    )
    if not expressible:
        return None
    return {"base_dim": canonical.embed_dim, "depths": list(canonical.depths), "mlp_ratio": ratios.pop()}


def needs_starsearch(model: Network) -> bool:
    """Whether loading the exported folder takes `import starsearch`, since timm's StarNet cannot express it."""
    return model.stem_stride != 2 or timm_arguments(model.architecture) is None


def export_timm(
    model: Network,
    out: Path,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    card: str | None = None,
) -> None:
    """Write the folder `out`: config.json, model.safetensors, run_torch.py and, with `card`, README.md.

    A network that timm's StarNet cannot express has a model.py, too, which needs torch and safetensors only. All is
    read back before it takes its place: weights and logits are the model's bit by bit, by timm and by model.py. An
    earlier export at `out` is replaced.

    Args:
        model: the trained model; on any device, in any mode, it stays as it is.
        out: the folder.
        preprocessing: what the model was validated with; ImageNet's by default.
        class_names: of the outputs, in their order.
        card: text of the model card.

    Raises:
        ExportError: `out` holds other files, cannot be written, or does not read back as the model.
    """
    from safetensors.torch import save

    preprocessing = preprocessing or Preprocessing()
    _refuse_other_files(out)
    deployed = deployed_copy(model)
    config = _config(deployed, preprocessing, class_names)
    with export_written_whole(out) as partial:
        partial.mkdir()
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        # Not save_file: its errors on a full disk are no OSError.
        (partial / WEIGHTS_FILE).write_bytes(save(deployed.state_dict(), metadata={"format": "pt"}))
        (partial / RUN_SCRIPT).write_text(script(RUN_SCRIPT), encoding="utf-8")
        if needs_starsearch(deployed):
            (partial / MODEL_SCRIPT).write_text(_model_script(deployed, class_names), encoding="utf-8")
        if card is not None:
            (partial / CARD_FILE).write_text(card, encoding="utf-8")
        _compare_with_folder(deployed, partial, resolution=preprocessing.resolution)


def _refuse_other_files(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ExportError(f"{out} is a file; a timm export is a folder. Choose another name.")
    found = {path.name for path in out.iterdir()}
    others = sorted(found - _OWN_FILES - _OTHER_FORMATS)
    without_timm = {*_OTHER_FORMATS, CARD_FILE} if found & _OTHER_FORMATS else set()
    if others or (found - without_timm and not _is_export(out)):
        what = f"holds {others[0]!r}" if others else "was not written by starsearch"
        raise ExportError(f"{out} {what}, and an export would replace the whole folder. Choose a new or empty folder.")


def _is_export(folder: Path) -> bool:
    try:
        return _MARK in json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _config(model: Network, preprocessing: Preprocessing, class_names: Sequence[str]) -> dict[str, Any]:
    """config.json as timm's `save_for_hf` lays it out."""
    from starsearch import __version__

    if class_names and len(class_names) != model.num_classes:
        raise ExportError(f"The model has {model.num_classes} outputs; {len(class_names)} class names were given.")
    name, arguments = _model_and_arguments(model)
    config = {
        "architecture": name,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            **preprocessing.timm_config(channels=model.in_chans),
            "fixed_input_size": False,
            "num_classes": model.num_classes,
            "pool_size": None,
            "first_conv": "stem.0.conv",
            "classifier": "head",
            "paper_name": "Rewrite the Stars",
            "paper_ids": "arXiv:2403.19967",
        },
        _MARK: {
            "version": __version__,
            "architecture": format_architecture(model.architecture),
            "orientation": preprocessing.orientation,
        },
    }
    return {**config, "label_names": list(class_names)} if class_names else config


def _model_and_arguments(model: Network) -> tuple[str, dict[str, Any]]:
    """The name by which timm knows the network, and what to call it with; an anchor's name says all."""
    arguments = timm_arguments(model.architecture)
    if needs_starsearch(model) or arguments is None:
        text = format_architecture(model.architecture)
        return "starsearch_starnet", {"architecture": text, "stem_stride": model.stem_stride}
    canonical = model.architecture.canonical()
    for name, anchor in presets().items():
        if anchor == canonical:
            return name, {}
    return "starnet_s1", arguments


def _model_script(model: Network, class_names: Sequence[str]) -> str:
    """model.py with this network's table in it."""
    network: Any = model.architecture.canonical()
    stages = zip(
        network.stage_widths,
        network.depths,
        map(network.hidden_width, range(network.num_stages)),
        network.kernel_size,
        network.ops,
        network.activation,
        strict=True,
    )
    table = {
        "in_channels": model.in_chans,
        "stem_width": network.stem_width,
        "stem_stride": model.stem_stride,
        "activation": network.act_type,
        "stages": list(stages),
        "num_classes": model.num_classes,
    }
    text = script(MODEL_SCRIPT)
    for name, empty, value in (
        ("NETWORK: dict[str, Any]", "{}", table),
        ("CLASS_NAMES: list[str]", "[]", list(class_names)),
    ):
        text = text.replace(f"{name} = {empty}\n", f"{name} = {pformat(value, width=100, sort_dicts=False)}\n")
    return text


def _compare_with_folder(model: Network, folder: Path, *, resolution: int) -> None:
    """Raise `ExportError` unless timm and model.py read the folder as `model`, weights and logits bit by bit."""
    import timm
    import torch

    import starsearch.families.starnet_module  # noqa: F401  # registers starsearch_starnet, if nothing else has

    try:
        with torch.random.fork_rng(devices=[]):  # the new model's initialisation shall not move the caller's seed
            twin: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except Exception as error:  # whatever timm says about its own file format
        raise ExportError(f"timm cannot load the exported folder: {error}") from error
    expected, found = model.state_dict(), twin.state_dict()
    differing = [key for key in expected if key not in found or not torch.equal(expected[key], found[key])]
    if differing or len(expected) != len(found):
        raise ExportError(f"The exported weights do not read back as the model's; first: {(differing or ['?'])[0]!r}.")
    twins = {"timm": twin}
    if (folder / MODEL_SCRIPT).exists():
        with torch.random.fork_rng(devices=[]):
            twins[MODEL_SCRIPT] = runpy.run_path(str(folder / MODEL_SCRIPT))["load"]()
    images = random_images(model, resolution=resolution, num_images=2)
    logits = torch_logits(model, images).tobytes()
    for name, twin in twins.items():
        if torch_logits(twin, images).tobytes() != logits:
            raise ExportError(
                f"{name} loads the exported folder as another network: its logits differ from the model's."
            )

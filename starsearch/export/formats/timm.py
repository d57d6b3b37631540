"""A folder that timm loads: `timm.create_model("local-dir:DIR", pretrained=True)`."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from starsearch.errors import ExportError
from starsearch.export.format import CARD_FILE, Format, TrainedNetwork, script
from starsearch.export.formats import formats

if TYPE_CHECKING:
    from starsearch.families.family import Architecture
    from starsearch.families.network import Network

CONFIG_FILE, WEIGHTS_FILE, MODEL_SCRIPT, RUN_SCRIPT = "config.json", "model.safetensors", "model.py", "run_torch.py"
_OWN_FILES = {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, MODEL_SCRIPT, RUN_SCRIPT, "__pycache__"}
# An entry of config.json that timm passes over; it tells an export from other people's files.
_MARK = "starsearch"


def timm_arguments(architecture: Architecture) -> dict[str, Any] | None:
    """Return keywords of timm's own StarNet that build this network, or None where timm cannot express it."""
    canonical: Any = architecture.canonical()
    if canonical.family == "timm":
        return {}
    if canonical.family != "starnet":
        return None
    from starsearch.families.family import Architecture

    ratios = {ratio for ratio, depth in zip(canonical.mlp_ratio, canonical.depths, strict=True) if depth} or {4}
    said = {"embed_dim": canonical.embed_dim, "depths": canonical.depths, "mlp_ratio": ratios.pop()}
    if ratios or not isinstance(said["mlp_ratio"], int) or Architecture.of(**said).canonical() != canonical:
        return None
    return {"base_dim": canonical.embed_dim, "depths": list(canonical.depths), "mlp_ratio": said["mlp_ratio"]}


def needs_starsearch(model: Network) -> bool:
    """Whether timm loads the exported folder only after `import starsearch.timm_models`."""
    return model.stem_stride != 2 or timm_arguments(model.architecture) is None


def write(network: TrainedNetwork, folder: Path) -> tuple[str, ...]:
    """Write config.json, model.safetensors and run_torch.py; model.py too where timm's StarNet cannot express it."""
    from safetensors.torch import save

    from starsearch.export.verification import deployed_copy

    deployed = deployed_copy(network.model)
    config = _config(deployed, network)
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    # Not save_file: its errors on a full disk are no OSError.
    (folder / WEIGHTS_FILE).write_bytes(save(deployed.state_dict(), metadata={"format": "pt"}))
    (folder / RUN_SCRIPT).write_text(script(RUN_SCRIPT), encoding="utf-8")
    if needs_starsearch(deployed):
        (folder / MODEL_SCRIPT).write_text(_model_script(deployed, network.class_names), encoding="utf-8")
    return ()


def check(folder: Path) -> None:
    """Refuse a folder that holds what no export has written: it is replaced as a whole."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; a timm export is a folder. Choose another name.")
    known = [form for form in formats().values() if form.file != "."]
    beside = {name for form in known for name in (form.file, *form.scripts)}
    found = {path.name for path in folder.iterdir()}
    others = sorted(found - _OWN_FILES - beside)
    without_timm = {*beside, CARD_FILE} if found & beside else set()
    if others or (found - without_timm and not _is_export(folder)):
        what = f"holds {others[0]!r}" if others else "was not written by starsearch"
        raise ExportError(
            f"{folder} {what}, and an export would replace the whole folder. Choose a new or empty folder."
        )


def _is_export(folder: Path) -> bool:
    try:
        return _MARK in json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _config(model: Network, network: TrainedNetwork) -> dict[str, Any]:
    """Return config.json as timm's `save_for_hf` lays it out."""
    from starsearch import __version__
    from starsearch.families.text import format_architecture

    names = network.class_names
    name, arguments = _model_and_arguments(model)
    config = {
        "architecture": name,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            **network.preprocessing.timm_config(channels=model.in_chans),
            "fixed_input_size": False,
            "num_classes": model.num_classes,
            "pool_size": None,
            "first_conv": next(iter(model.state_dict())).removesuffix(".weight"),
            "classifier": model.classifier,
            **model.paper,
        },
        _MARK: {
            "version": __version__,
            "architecture": format_architecture(model.architecture),
            "orientation": network.preprocessing.orientation,
        },
    }
    return {**config, "label_names": list(names)} if names else config


def _model_and_arguments(model: Network) -> tuple[str, dict[str, Any]]:
    """Return the name by which timm knows the network, and what to call it with; an anchor's name says all."""
    from starsearch.families.family import presets
    from starsearch.families.text import format_architecture

    arguments = timm_arguments(model.architecture)
    if needs_starsearch(model) or arguments is None:
        text = format_architecture(model.architecture)
        return model.timm_name, {"architecture": text, "stem_stride": model.stem_stride}
    canonical: Any = model.architecture.canonical()
    if canonical.family == "timm":
        return canonical.name, {}
    anchor = next((name for name, anchor in presets().items() if anchor == canonical), None)
    return (anchor, {}) if anchor else ("starnet_s1", arguments)


def _model_script(model: Network, class_names: Sequence[str]) -> str:
    """Return model.py with this network's table in it."""
    from starsearch.families.layers import ACTIVATION_FUNCTIONS

    architecture: Any = model.architecture
    table = {
        "in_channels": model.in_chans,
        "stem_stride": model.stem_stride,
        "activation": ACTIVATION_FUNCTIONS[architecture.act_type].torch,
        "num_classes": model.num_classes,
        **model.plain_fields(),
    }
    text = script(f"{architecture.family}.py")
    for name, empty, value in (
        ("NETWORK: dict[str, Any]", "{}", table),
        ("CLASS_NAMES: list[str]", "[]", list(class_names)),
    ):
        text = text.replace(f"{name} = {empty}\n", f"{name} = {pformat(value, width=100, sort_dicts=False)}\n")
    return text


def read_back(network: TrainedNetwork, folder: Path) -> tuple[str, ...]:
    """Compare with the model what timm and model.py read from the folder: weights and logits bit by bit."""
    import timm
    import torch

    import starsearch.timm_models  # noqa: F401  # registers our networks, if nothing else has
    from starsearch.export.verification import deployed_copy, random_images, torch_logits

    model = deployed_copy(network.model)
    try:
        with torch.random.fork_rng(devices=[]):  # the new model's initialisation must not move the caller's seed
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
    images = random_images(network.preprocessing.resolution, channels=model.in_chans)
    logits = torch_logits(model, images).tobytes()
    for name, twin in twins.items():
        if torch_logits(twin, images).tobytes() != logits:
            raise ExportError(
                f"{name} loads the exported folder as another network: its logits differ from the model's."
            )
    return ()


FORMATS = (
    Format(
        name="timm",
        help="a folder that timm.create_model loads",
        file=".",
        check=check,
        write=write,
        read_back=read_back,
    ),
)

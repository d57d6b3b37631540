"""Trained weights as a safetensors file that says which network they are of, and how it was validated."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from starsearch.data.preprocessing import Validated
from starsearch.errors import StudyError
from starsearch.families.network import Network, build_model
from starsearch.families.text import format_architecture, parse_architecture


def save_weights(model: Network, path: Path, *, validated: Validated | None = None, otherwise: str = "") -> None:
    """Write the state dict as safetensors, with what is needed to build the module again.

    Args:
        model: on any device.
        path: of the file.
        validated: how it was validated, where that shall be in the file: `starsearch validate` then does the same.
        otherwise: what the user may do where there is no room, beside making room.

    Raises:
        StudyError: the file cannot be written.
    """
    metadata = {
        "format": "pt",
        "architecture": format_architecture(model.architecture),
        "num_classes": str(model.num_classes),
        "in_chans": str(model.in_chans),
        "stem_stride": str(model.stem_stride),
        **({} if validated is None else validated.metadata()),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(save(tensors, metadata=metadata))  # not save_file: its errors on a full disk are no OSError
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StudyError(
            f"The trained weights {path.name} cannot be written: {error.strerror}. The training is not at fault: make "
            f"room, {f'or {otherwise}' if otherwise else ''}and run the same command; it goes on."
        ) from error


def load_weights(path: Path) -> Network:
    """The module that `save_weights` wrote, in eval mode.

    Raises:
        OSError: the file is not there.
    """
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — not a mapping
    model = build_model(
        parse_architecture(about["architecture"]),
        num_classes=int(about["num_classes"]),
        in_chans=int(about["in_chans"]),
        stem_stride=int(about["stem_stride"]),
    )
    model.load_state_dict(state)
    return model.eval()

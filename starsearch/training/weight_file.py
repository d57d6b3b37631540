"""Trained weights as a safetensors file that says which network they are of, and how it was validated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from starsearch.data import DataSet
from starsearch.data.preprocessing import Validated
from starsearch.families.network import Network, build_model
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.files import written_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """Weights for a training to begin with.

    Attributes:
        name: what to call them, without a path.
        state: the state dict.
        classes: names of the head's classes; empty where they are not known.
    """

    name: str
    state: Mapping[str, torch.Tensor] = field(repr=False)
    classes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The name with a digest of the weights, which says whether two are the same."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.state.items()):
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)  # NumPy has no bfloat16
            digest.update(key.encode() + values.numpy().tobytes())
        return f"{self.name} ({digest.hexdigest()[:12]})"

    def for_data(self, data: DataSet) -> Mapping[str, torch.Tensor]:
        """Return the state dict, without a head of classes by other names."""
        if not self.classes or self.classes == tuple(data.classes):
            return self.state
        return {name: tensor for name, tensor in self.state.items() if not name.startswith("head.")}


def save_weights(model: Network, path: Path, *, validated: Validated | None = None, otherwise: str = "") -> None:
    """Write the state dict as safetensors, with what is needed to build the module again.

    Args:
        model: on any device.
        path: the file.
        validated: how it was validated, if the file is to say it: `starsearch validate` then does the same.
        otherwise: what the user can do if there is no room, beside making room.
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
    advice = (
        f"The training is not at fault: make room, {f'or {otherwise}' if otherwise else ''}and run the same command, "
        "which resumes."
    )
    with written_whole(path, f"the trained weights {path.name}", advice=advice) as partial:
        partial.write_bytes(save(tensors, metadata=metadata))  # not save_file: its errors on a full disk are no OSError


def load_weights(path: Path) -> Network:
    """Return the module that `save_weights` wrote, in eval mode.

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

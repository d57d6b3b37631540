"""A network to be measured, in any of the forms a user may write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.architectures import find_architecture, find_deployment
from starsearch.errors import EvaluationError, did_you_mean
from starsearch.families.family import count_macs
from starsearch.families.text import format_architecture

if TYPE_CHECKING:
    from torch import nn

    from starsearch.latency.backends.backend import Network

_RESOLUTION = 224
_TIMM = "timm:"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNetwork:
    """A network and what to call it.

    Attributes:
        text: an architecture's one line, an ONNX file's name, or "timm:NAME".
        network: what is measured.
        resolution: of its image in pixels; None where the file knows it.
        num_classes: outputs of an architecture's head.
        macs: of an architecture at that resolution, multiply-adds of convolutions and the head; else None.
    """

    text: str
    network: Network
    resolution: int | None
    num_classes: int = 1000
    macs: int | None = None


def find_network(text: str, *, resolution: int | None = None) -> NamedNetwork:
    """The network that `text` names: FILE.onnx, timm:NAME (random weights), or an architecture.

    Args:
        text: as a user writes it; architectures as `find_architecture` takes them.
        resolution: of the image in pixels; by default a study's, a timm model's own, or 224.

    Raises:
        ArchitectureError, SpecError, StudyError: the text names no architecture.
        EvaluationError: the ONNX file cannot be read, timm has no such model, or a resolution was given for a file.
    """
    if text.startswith(_TIMM):
        return _of_timm(text.removeprefix(_TIMM), resolution)
    if Path(text).suffix == ".onnx":
        return _of_onnx_file(Path(text), resolution)
    architecture, (own, num_classes) = find_architecture(text), find_deployment(text)
    pixels = resolution or own or _RESOLUTION
    return NamedNetwork(
        text=format_architecture(architecture),
        network=architecture,
        resolution=pixels,
        num_classes=num_classes,
        macs=count_macs(architecture, resolution=pixels, num_classes=num_classes),
    )


def _of_onnx_file(path: Path, resolution: int | None) -> NamedNetwork:
    """Read through `onnx`, which fetches weights that lie in files beside it."""
    if resolution is not None:
        raise EvaluationError(
            f"An ONNX file has its input's size written in it; leave out the resolution, or export {path.name} again "
            f"(starsearch export … --resolution {resolution})."
        )
    import onnx

    try:
        model = onnx.load(path).SerializeToString()
    except OSError as error:
        raise EvaluationError(f"The ONNX file {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # protobuf's and onnx's errors share no base class
        raise EvaluationError(f"{path} is no ONNX file, or weights beside it are missing: {error}") from error
    return NamedNetwork(text=path.name, network=model, resolution=None)


def _of_timm(name: str, resolution: int | None) -> NamedNetwork:
    import timm

    if not timm.is_model(name):
        raise EvaluationError(
            f"timm {timm.__version__} has no model {name!r}.{did_you_mean(name, timm.list_models())} "
            f"List some: python -c \"import timm; print(timm.list_models('*{name[:6]}*'))\""
        )
    module: nn.Module = timm.create_model(name, pretrained=False).eval()
    config = getattr(module, "pretrained_cfg", None) or {}
    own = int(config.get("input_size", (3, _RESOLUTION, _RESOLUTION))[-1])
    return NamedNetwork(text=f"{_TIMM}{name}", network=module, resolution=resolution or own)

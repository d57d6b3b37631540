"""A trained model as an ONNX file that was read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.architecture import lower
from starsearch.export.files import replaced_when_done
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import TOLERANCE, check_onnx
from starsearch.export.weights import state_dict_arrays

if TYPE_CHECKING:
    from starsearch.models import StarNet


def export_onnx(
    model: StarNet,
    out: Path,
    *,
    resolution: int = 224,
    metadata: Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Write `model` for one image of `resolution` pixels; the difference from torch's logits by their spread.

    The file is written beside `out`, read back, checked by onnx and compared in ONNX Runtime with the model, and
    only then takes its place.

    Raises:
        ExportError: the file cannot be written, or does not compute what the model computes.
    """
    layers = lower(
        model.architecture,
        resolution=resolution,
        num_classes=model.num_classes,
        in_chans=model.in_chans,
        stem_stride=model.stem_stride,
    )
    onnx_bytes = build_onnx(layers, state_dict_arrays(model), metadata=metadata)
    with replaced_when_done(out) as partial:
        partial.write_bytes(onnx_bytes)
        return check_onnx(partial.read_bytes(), model, resolution=resolution, tolerance=tolerance)

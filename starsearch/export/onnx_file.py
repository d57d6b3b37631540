"""A trained model as an ONNX file that was read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.export.files import export_written_whole
from starsearch.export.onnx import build_onnx, with_batch
from starsearch.export.padding import pad_weights
from starsearch.export.verification import TOLERANCE, check_onnx
from starsearch.export.weights import state_dict_arrays
from starsearch.families.layers import pad_channels

if TYPE_CHECKING:
    from starsearch.families.network import Network


def export_onnx(
    model: Network,
    out: Path,
    *,
    resolution: int = 224,
    metadata: Mapping[str, str] | None = None,
    multiple: int | None = None,
    dynamic_batch: bool = False,
    tolerance: float = TOLERANCE,
) -> float:
    """Write `model` for one image of `resolution` pixels; the difference from torch's logits by their spread.

    The file is written beside `out`, read back, checked by onnx and compared in ONNX Runtime with the model, and
    only then takes its place.

    Args:
        model: the trained network; it stays as it is.
        out: the file.
        resolution: height and width of the image.
        metadata: written into the file's metadata properties.
        multiple: to which channels are padded with zeros, for the same logits in less time on some devices (see
            `starsearch.latency.padded`); None leaves them as they are.
        dynamic_batch: let the file take any number of images at once.
        tolerance: largest difference, by the logits' spread.

    Raises:
        ExportError: the file cannot be written, or does not compute what the model computes.
    """
    layers = model.lower(resolution=resolution)
    weights = state_dict_arrays(model)
    if multiple is not None:
        padded = pad_channels(layers, multiple=multiple)
        layers, weights = padded, pad_weights(layers, padded, weights)
    onnx_bytes = build_onnx(layers, weights, metadata=metadata)
    if dynamic_batch:
        onnx_bytes = with_batch(onnx_bytes, "batch")
    with export_written_whole(out) as partial:
        partial.write_bytes(onnx_bytes)
        return check_onnx(partial.read_bytes(), model, resolution=resolution, tolerance=tolerance)

"""A network in 8-bit integers: an ONNX graph with static QDQ, weights scaled per channel.

How was chosen by measuring on AVX2 without VNNI (ONNX Runtime 1.31; studies/benchmarks/latency/int8.py).
Activations are unsigned: with signed ones networks took three to six times as long there, and ARM runs both. Weights
have 7 bits: without VNNI products of 8-bit weights saturate at 16 bits, which cost trained networks 1 to 5 points of
top-1 where 7 bits cost none, and a file does not know where it will run. Ranges are minimum and maximum: percentiles
and entropy gave the same top-1 within the noise, and would keep every activation of every image in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import ExportError
from starsearch.export.files import export_written_whole
from starsearch.export.onnx import INPUT_NAME, build_onnx, with_batch
from starsearch.export.verification import check_onnx_format, onnx_logits
from starsearch.export.weights import FloatArray, state_dict_arrays
from starsearch.families.layers import Layer

if TYPE_CHECKING:
    from onnx import ModelProto

    from starsearch.families.network import Network

# These have no 8-bit kernel: their pieces quantised one by one would only add conversions.
_KEPT_IN_FLOAT = ("gelu", "hard_swish")
_CHECKED_IMAGES = 4
_PRE_PROCESSED = ("onnx.quant.pre_process", "onnxruntime.quant")


def build_int8_onnx(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    *,
    images: Iterable[NDArray[np.float32]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The network of `build_onnx`, its convolutions, stars, sums and head in 8-bit integers; a few seconds.

    Input and output stay float32: "input" (1, channels, height, width) and "logits" (1, classes).

    Args:
        layers: of `starsearch.families.family.lower`.
        weights: by state-dict key.
        images: (1, channels, height, width) each, normalised as in training: what the ranges of the activations are
            read from. At least one; a hundred or more for a network whose accuracy matters.
        metadata: written into the file's metadata properties.

    Raises:
        ExportError: there are no images, or the runtime cannot quantise the network.
    """
    import onnx

    model = onnx.load_from_string(build_onnx(layers, weights))
    kept = [node.name for node in model.graph.node if _is_kept_in_float(node.name, layers)]
    model.metadata_props.add(key=_PRE_PROCESSED[0], value=_PRE_PROCESSED[1])  # norms are folded: nothing is to be done
    quantized = _quantize(model, images, kept)
    del quantized.metadata_props[:]
    for key, value in sorted((metadata or {}).items()):
        quantized.metadata_props.add(key=key, value=value)
    return bytes(quantized.SerializeToString())


def export_int8_onnx(
    model: Network,
    out: Path,
    *,
    images: Iterable[NDArray[np.float32]],
    resolution: int = 224,
    metadata: Mapping[str, str] | None = None,
    dynamic_batch: bool = False,
) -> bytes:
    """Write `model` in 8-bit integers for one image of `resolution` pixels; the file's bytes, as they were read back.

    Unlike a float32 file it does not compute what the model computes: measure its accuracy.

    Args:
        model: the trained network; it stays as it is.
        out: the file.
        images: for calibration, (1, channels, resolution, resolution) each, normalised as in training.
        resolution: height and width of the image.
        metadata: written into the file's metadata properties.
        dynamic_batch: let the file take any number of images at once.

    Raises:
        ExportError: there are no images, the file cannot be written, or its logits are not finite.
    """
    layers = model.lower(resolution=resolution)
    onnx_bytes = build_int8_onnx(layers, state_dict_arrays(model), images=images, metadata=metadata)
    if dynamic_batch:
        onnx_bytes = with_batch(onnx_bytes, "batch")
    with export_written_whole(out) as partial:
        partial.write_bytes(onnx_bytes)
        written = partial.read_bytes()
        _check(written, layers[0])
    return written


def with_image_size(onnx_bytes: bytes, *, resolution: int, stem_stride: int) -> bytes:
    """The same int8 network for images of another size and another stride of the stem.

    How long a network takes does not depend on the ranges, so the graph that accuracy was measured with serves to
    time the deployed one, without quantising it again.
    """
    import onnx

    model = onnx.load_from_string(onnx_bytes)
    graph = model.graph
    for dim in graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = resolution
    stem = next(node for node in graph.node if node.op_type == "Conv")
    next(attribute for attribute in stem.attribute if attribute.name == "strides").ints[:] = [stem_stride] * 2
    del graph.value_info[:]  # shapes of the old size
    return bytes(model.SerializeToString())


def _is_kept_in_float(node_name: str, layers: Sequence[Layer]) -> bool:
    return any(
        node_name == layer.name or node_name.startswith(f"{layer.name}.")
        for layer in layers
        if layer.act_type in _KEPT_IN_FLOAT
    )


def _quantize(model: ModelProto, images: Iterable[NDArray[np.float32]], kept_in_float: list[str]) -> ModelProto:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    reader = _CalibrationImages(iter(images))
    with tempfile.TemporaryDirectory(prefix="starsearch-int8-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            quantize_static(
                model,
                path,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept_in_float,
            )
        except Exception as error:  # the quantiser raises what it likes
            if not reader.num_images:
                raise ExportError("An int8 network is calibrated on images; none were given.") from None
            raise ExportError(f"ONNX Runtime cannot quantise the network: {error}") from error
        return onnx.load(path)


class _CalibrationImages:
    """Hands images over one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: Iterator[NDArray[np.float32]]) -> None:
        self._images = images
        self.num_images = 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image by the name of the network's input; None at the end."""
        image = next(self._images, None)
        if image is None:
            return None
        self.num_images += 1
        return {INPUT_NAME: np.ascontiguousarray(image, dtype=np.float32)}


def _check(onnx_bytes: bytes, first: Layer) -> None:
    check_onnx_format(onnx_bytes)
    images = np.random.default_rng(0).standard_normal((_CHECKED_IMAGES, *first.in_shape), dtype=np.float32)
    if not np.isfinite(onnx_logits(onnx_bytes, images)).all():
        raise ExportError("The int8 network's logits are not finite. Are the trained weights?")

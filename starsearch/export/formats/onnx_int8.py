"""ONNX in 8-bit integers: static QDQ, weights scaled per channel.

How was chosen by measuring on AVX2 without VNNI (ONNX Runtime 1.31; studies/benchmarks/int8.py).
Activations are unsigned: with signed ones networks took three to six times as long there, and ARM runs both. Weights
have 7 bits: without VNNI products of 8-bit weights saturate at 16 bits, which cost trained networks 1 to 5 points of
top-1 where 7 bits cost none, and a file does not know where it will run. Ranges are minimum and maximum: percentiles
and entropy gave the same top-1 within the noise, and would keep every activation of every image in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.errors import ExportError
from starsearch.export.format import Format, TrainedNetwork
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from starsearch.export.weights import FloatArray, Weights
    from starsearch.families.layers import Layer

# These have no 8-bit kernel: their pieces quantised one by one would only add conversions.
_KEPT_IN_FLOAT = ("gelu", "hard_swish")
_PRE_PROCESSED = {"onnx.quant.pre_process": "onnxruntime.quant"}  # norms are folded: nothing is left to be done


def build_int8_onnx(
    layers: Sequence[Layer],
    weights: Weights,
    *,
    images: Iterable[FloatArray],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return the network of `build_onnx` with convolutions, stars, sums and head in 8-bit integers; a few seconds.

    Input and output stay float32: "input" (1, channels, height, width) and "logits" (1, classes).

    The ranges of the activations are read from `images`, (1, channels, height, width) each, normalised as in training:
    at least one; a hundred or more for a network whose accuracy matters.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    from starsearch.export.onnx import INPUT_NAME, build_onnx

    class Reader:
        """Hands the images over one by one, as ONNX Runtime's calibration asks for them."""

        def __init__(self) -> None:
            self.images, self.is_empty = iter(images), True

        def get_next(self) -> dict[str, FloatArray] | None:
            image = next(self.images, None)
            self.is_empty = self.is_empty and image is None
            return None if image is None else {INPUT_NAME: image}

    model, reader = onnx.load_from_string(build_onnx(layers, weights, metadata=_PRE_PROCESSED)), Reader()
    floats = [layer.name for layer in layers if layer.act_type in _KEPT_IN_FLOAT or layer.op == "layer_norm"]
    names = [node.name for node in model.graph.node]
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
                nodes_to_exclude=[name for name in names if any(f"{name}.".startswith(f"{one}.") for one in floats)],
            )
        except Exception as error:  # the quantiser raises what it likes
            if reader.is_empty:
                raise ExportError("An int8 network is calibrated on images; none were given.") from None
            raise ExportError(f"ONNX Runtime cannot quantise the network: {error}") from error
        quantized = onnx.load(path)
    del quantized.metadata_props[:]
    onnx.helper.set_model_props(quantized, dict(sorted((metadata or {}).items())))
    return bytes(quantized.SerializeToString())


def with_image_size(onnx_bytes: bytes, *, resolution: Resolution, stride: int) -> bytes:
    """Return the same int8 network for images of another size and another stride of the first convolution.

    How long a network takes does not depend on the ranges, so the graph that accuracy was measured with serves to
    time the deployed one, without quantising it again.
    """
    import onnx

    model = onnx.load_from_string(onnx_bytes)
    graph = model.graph
    for dim, side in zip(graph.input[0].type.tensor_type.shape.dim[2:], sides(resolution), strict=True):
        dim.dim_value = side
    stem = next(node for node in graph.node if node.op_type == "Conv")
    next(attribute for attribute in stem.attribute if attribute.name == "strides").ints[:] = [stride] * 2
    del graph.value_info[:]  # shapes of the old size
    return bytes(model.SerializeToString())


def write(network: TrainedNetwork, path: Path) -> tuple[str, ...]:
    """Calibrate the network on images it was trained on, and write it."""
    from starsearch.export.onnx import with_batch
    from starsearch.export.weights import state_dict_arrays

    layers = network.model.lower(resolution=network.preprocessing.resolution)
    images = network.calibration() if network.calibration else ()
    graph = build_int8_onnx(layers, state_dict_arrays(network.model), images=images, metadata=network.metadata)
    path.write_bytes(with_batch(graph, "batch") if network.dynamic_batch else graph)
    return ()


def read_back(network: TrainedNetwork, path: Path) -> Sequence[str]:
    """Run the file; unlike a float32 file it does not compute what the model computes, so its accuracy is measured."""
    import numpy as np

    from starsearch.export.onnx import with_batch
    from starsearch.export.verification import check_onnx_format, onnx_logits, random_images

    graph = path.read_bytes()
    check_onnx_format(graph)
    if not np.isfinite(onnx_logits(graph, random_images(network.preprocessing.resolution))).all():
        raise ExportError("The int8 network's logits are not finite. Are the trained weights?")
    return network.judge(with_batch(graph, 1)) if network.judge else ()


FORMATS = (
    Format(
        name="onnx-int8",
        help="ONNX in 8-bit integers, calibrated on the training data",
        file="model.int8.onnx",
        write=write,
        read_back=read_back,
        options=frozenset({"--data", "--dynamic-batch"}),
        needs_data=True,
        scripts=("run_onnx.py",),
    ),
)

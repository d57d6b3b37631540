"""OpenVINO's intermediate representation, in float32, for Intel's processors, GPUs and NPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starsearch.export.format import TrainedNetwork
from starsearch.export.runtime import runtime_format


def convert(network: TrainedNetwork, _model: Any, _image: Any, path: Path) -> None:
    """Write what OpenVINO makes of the network's ONNX graph, whose batch norms are folded."""
    import openvino

    from starsearch.export.onnx import build_onnx
    from starsearch.export.weights import state_dict_arrays

    layers = network.model.lower(resolution=network.preprocessing.resolution)
    read = openvino.Core().read_model(build_onnx(layers, state_dict_arrays(network.model)))
    openvino.save_model(read, path, compress_to_fp16=False)


FORMAT = runtime_format(
    name="openvino",
    about="OpenVINO's, in float32",
    file="model.xml",
    needs=("openvino", "openvino"),
    convert=convert,
)

"""ONNX in float32, compared with the model in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from starsearch.export.format import Format, TrainedNetwork


def write(network: TrainedNetwork, path: Path) -> tuple[str, ...]:
    """Write the network, with its channels padded where they are to be."""
    from starsearch.export.onnx import build_onnx, with_batch
    from starsearch.export.weights import pad_weights, state_dict_arrays
    from starsearch.families.layers import pad_channels

    layers = network.model.lower(resolution=network.preprocessing.resolution)
    weights = state_dict_arrays(network.model)
    if network.multiple is not None:
        padded = pad_channels(layers, multiple=network.multiple)
        layers, weights = padded, pad_weights(layers, padded, weights)
    graph = build_onnx(layers, weights, metadata=network.metadata)
    path.write_bytes(with_batch(graph, "batch") if network.dynamic_batch else graph)
    return ()


def read_back(network: TrainedNetwork, path: Path) -> tuple[str, ...]:
    """Compare the file's logits with the model's."""
    from starsearch.export.verification import check_onnx

    check_onnx(path.read_bytes(), network.model, resolution=network.preprocessing.resolution)
    return ()


FORMATS = (
    Format(
        name="onnx",
        help="ONNX in float32, padded where that is faster on this machine",
        file="model.onnx",
        write=write,
        read_back=read_back,
        options=frozenset({"--dynamic-batch", "--pad"}),
        scripts=("run_onnx.py",),
    ),
)

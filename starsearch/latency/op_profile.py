"""How a network's time is shared among its layers, as ONNX Runtime's own profiler sees it."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.layers import Layer
from starsearch.latency.lock import computing, measuring
from starsearch.latency.onnxruntime import build_session, draw_input, first_line

_RUNS = 15
_WARM_UP_RUNS = 3
_KERNEL = "_kernel_time"
# What ONNX Runtime appends to the name of a node that it rewrote, and the ONNX builder to a layer's first node.
_SUFFIXES = ("_nchwc", ".map")


def profile_layers(
    layers: Sequence[Layer], model: bytes, *, rng: np.random.Generator, threads: int = 1
) -> dict[str, float]:
    """By layer name, the share of the network's kernel time; shares add up to 1, a fused layer's time is its host's.

    Shares, not times: the profiler slows what it watches and the clock drifts meanwhile, by up to a tenth; the
    network's latency is known better from pairs.

    Args:
        layers: of the lowering.
        model: the ONNX file built from them.
        rng: of the input's values.
        threads: that the network may use.

    Raises:
        EvaluationError: ONNX Runtime refuses the model or cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        events = _run_profiled(model, Path(folder), rng, threads)
    return share_among_layers(layers, _median_times(events))


def share_among_layers(layers: Sequence[Layer], times: Mapping[str, float]) -> dict[str, float]:
    """Kernel times in the order of execution, by ONNX Runtime's names, as shares of the layers.

    A reordering of the layout belongs to the layer that it was made for: before the node that needed the plain
    layout, after it to go back. A convolution that an activation or an addition was fused into carries the name
    of what it absorbed: its time is the convolution's.
    """
    known = {layer.name: layer for layer in layers}
    found: dict[str, float] = defaultdict(float)
    waiting, last = 0.0, None
    for name, time in times.items():
        layer_name = _layer_name(name)
        if layer_name in known:
            found[layer_name] += time + waiting
            waiting, last = 0.0, layer_name
        elif name.startswith("ReorderOutput") or last is None:
            waiting += time
        else:
            found[last] += time
    for layer in layers:
        _give_back_to_host(found, layer, known)
    total = sum(found.values())
    if not total > 0:
        raise EvaluationError("ONNX Runtime's profile names none of the network's layers: profile an exported network.")
    return {layer.name: found.get(layer.name, 0.0) / total for layer in layers}


def _give_back_to_host(found: dict[str, float], layer: Layer, known: Mapping[str, Layer]) -> None:
    if layer.op not in ("activation", "star", "sum", "residual") or layer.name not in found:
        return
    for source in layer.inputs:
        if source in known and known[source].op == "conv" and source not in found:
            found[source] = found.pop(layer.name)
            return


def _layer_name(node: str) -> str:
    for suffix in _SUFFIXES:
        node = node.removesuffix(suffix)
    return node


def _run_profiled(model: bytes, folder: Path, rng: np.random.Generator, threads: int) -> list[dict[str, Any]]:
    with computing():
        session = build_session(model, threads=threads, profile_prefix=folder / "profile")
    inputs = {node.name: draw_input(node, rng) for node in session.get_inputs()}
    try:
        with measuring():
            for _ in range(_WARM_UP_RUNS + _RUNS):
                session.run(None, inputs)
        file = session.end_profiling()
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise EvaluationError(f"ONNX Runtime could not profile the network: {first_line(error)}") from error
    events: list[dict[str, Any]] = json.loads(Path(file).read_text(encoding="utf-8"))
    return events


def _median_times(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By node, in the order of execution, the median of its runs in microseconds."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            times[str(event["name"]).removesuffix(_KERNEL)].append(float(event["dur"]))
    return {name: statistics.median(readings[_WARM_UP_RUNS:] or readings) for name, readings in times.items()}

"""How a network's time is shared among its layers, as ONNX Runtime's own profiler sees it."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from starsearch.errors import EvaluationError, first_line
from starsearch.families.layers import BRANCH_OPS, Layer
from starsearch.latency.backends.onnxruntime import build_session, draw_input
from starsearch.latency.lock import computing, measuring

_RUNS = 15
_WARM_UP_RUNS = 3
_KERNEL = "_kernel_time"
# What ONNX Runtime appends to the name of a node that it rewrote, and the ONNX builder to a layer's first node.
_SUFFIXES = ("_nchwc", ".map")


def profile_layers(
    layers: Sequence[Layer], model: bytes, *, rng: np.random.Generator, threads: int = 1
) -> dict[str, float]:
    """Return by layer name its share of the network's kernel time; a fused layer's time is its host's.

    Shares, not times: the profiler slows what it watches and the clock drifts meanwhile, by up to a tenth; the
    network's latency is known better from pairs.
    """
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        with computing():
            session = build_session(model, threads=threads, profile_prefix=Path(folder) / "profile")
        inputs = {node.name: draw_input(node, rng) for node in session.get_inputs()}
        try:
            with measuring():
                for _ in range(_WARM_UP_RUNS + _RUNS):
                    session.run(None, inputs)
            file = session.end_profiling()
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EvaluationError(f"ONNX Runtime could not profile the network: {first_line(error)}") from error
        events = json.loads(Path(file).read_text(encoding="utf-8"))
    times: defaultdict[str, list[float]] = defaultdict(list)  # microseconds by node, in the order of execution
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            times[str(event["name"]).removesuffix(_KERNEL)].append(float(event["dur"]))
    medians = {name: statistics.median(runs[_WARM_UP_RUNS:] or runs) for name, runs in times.items()}
    return share_among_layers(layers, medians)


def share_among_layers(layers: Sequence[Layer], times: Mapping[str, float]) -> dict[str, float]:
    """Return kernel times, given by ONNX Runtime's names in the order of execution, as shares of the layers.

    A reordering of the layout belongs to the layer that it was made for: before the node that needed the plain
    layout, after it to go back. A convolution that an activation or an addition was fused into carries the name
    of what it absorbed: its time is the convolution's.
    """
    known = {layer.name: layer for layer in layers}
    found: dict[str, float] = defaultdict(float)
    waiting, last = 0.0, None
    for node, time in times.items():
        name = node
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        if name in known:
            found[name] += time + waiting
            waiting, last = 0.0, name
        elif node.startswith("ReorderOutput") or last is None:
            waiting += time
        else:
            found[last] += time
    for layer in layers:
        if layer.op in ("activation", "residual", *BRANCH_OPS) and layer.name in found:
            hosts = (one for one in layer.inputs if one in known and known[one].op == "conv" and one not in found)
            host = next(hosts, None)
            if host is not None:
                found[host] = found.pop(layer.name)
    total = sum(found.values())
    if not total > 0:
        raise EvaluationError("ONNX Runtime's profile names none of the network's layers: profile an exported network.")
    return {layer.name: found.get(layer.name, 0.0) / total for layer in layers}

"""Measuring one network on this machine."""

from __future__ import annotations

from typing import Any

from starsearch.api.architectures import find_architecture
from starsearch.architecture import count_macs, format_architecture, lower


def measure_architecture(text: str, *, resolution: int = 224) -> dict[str, Any]:
    """Latency of the network `text` names, with random weights, in pairs with the reference network.

    Raises:
        ArchitectureError, SpecError, StudyError: the text names no architecture.
        EvaluationError: the network cannot be timed here.
    """
    import numpy as np

    from starsearch.export import build_onnx
    from starsearch.export.weights import random_weights
    from starsearch.latency import calibrate_reference, measure_latency

    architecture = find_architecture(text)
    rng = np.random.default_rng(0)
    layers = lower(architecture, resolution=resolution)
    graph = build_onnx(layers, random_weights(layers, rng))
    reference = calibrate_reference()
    steps = measure_latency(graph, reference=reference, rng=rng)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found = stop.value
            break
    return {
        "architecture": format_architecture(architecture),
        "resolution": resolution,
        "latency_ms": found.value,
        "latency_ms_spread": found.spread,
        "pairs": found.runs,
        "device": found.device,
        "reference_ms": reference.ms,
        "macs": count_macs(architecture, resolution=resolution),
    }

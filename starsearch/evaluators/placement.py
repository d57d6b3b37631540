"""Which processor Core ML would run an architecture on: fall-backs to the CPU, before anything is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from starsearch.errors import EvaluationError, ExportError
from starsearch.families.family import Architecture, lower
from starsearch.measurement import Measurement

COREML_CPU = "coreml_cpu_percent"


def measure_coreml_placement(architecture: Architecture, *, resolution: int, num_classes: int) -> Measurement:
    """`coreml_cpu_percent`: share of the network's cost that Core ML prefers to run on the CPU, by its own estimate.

    Counted is what would run there, whether another processor could run it or not: either way the data goes there and
    back. All compute units of this Mac are allowed, half precision, random weights: the plan does not depend on them.

    Args:
        architecture: the network.
        resolution: at which it is deployed, in pixels.
        num_classes: of the deployed network.

    Raises:
        EvaluationError: this machine is no Mac that can tell, or Core ML refuses the network.
    """
    from starsearch.export.coreml import SUFFIX, build_coreml
    from starsearch.export.weights import random_weights
    from starsearch.latency import computing
    from starsearch.latency.coreml import place_operations

    layers = lower(architecture, resolution=resolution, num_classes=num_classes)
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder, computing():
        package = Path(folder) / f"model{SUFFIX}"
        try:
            build_coreml(layers, random_weights(layers, np.random.default_rng(0))).save(str(package))
        except ExportError as error:
            raise EvaluationError(str(error)) from error
        placement = place_operations(package)
    return Measurement(name=COREML_CPU, value=100 * placement.cpu_share, device="Core ML on this Mac")

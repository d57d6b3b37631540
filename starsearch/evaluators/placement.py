"""Which processor Core ML would run an architecture on: fall-backs to the CPU, before anything is trained."""

from __future__ import annotations

import numpy as np

from starsearch.errors import EvaluationError, ExportError
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement

COREML_CPU = "coreml_cpu_percent"


def measure_coreml_placement(architecture: Architecture, *, resolution: int, num_classes: int) -> Measurement:
    """`coreml_cpu_percent`: share of the network's cost that Core ML prefers to run on the CPU, by its own estimate.

    Counted is what would run there, whether another processor could run it or not: either way the data goes there and
    back. All compute units of this Mac are allowed, half precision, random weights: the plan does not depend on them.

    Args:
        architecture: the network.
        resolution: pixels at which it is deployed.
        num_classes: outputs of the deployed network.
    """
    from starsearch.latency.backends.backend import BackendOptions
    from starsearch.latency.backends.coreml import Mac
    from starsearch.latency.backends.networks import as_module

    rng = np.random.default_rng(0)
    network = as_module(architecture, resolution=resolution, rng=rng, num_classes=num_classes)
    try:
        placed = Mac(BackendOptions()).describe_placement(network, resolution=resolution, rng=rng)
    except ExportError as error:
        raise EvaluationError(str(error)) from error
    return Measurement(name=COREML_CPU, value=100 * placed.cpu_share, device="Core ML on this Mac")

"""What runs a network to time it: ONNX Runtime on CPU or GPU, Core ML, PyTorch; one interface, found by name."""

from starsearch.latency.backends.backend import (
    BACKENDS,
    COMPUTE_UNITS,
    Backend,
    BackendOptions,
    ComputeUnits,
    Network,
    PlacingBackend,
    missing_by_backend,
    open_backend,
    reopen_backend,
)

__all__ = [
    "BACKENDS",
    "COMPUTE_UNITS",
    "Backend",
    "BackendOptions",
    "ComputeUnits",
    "Network",
    "PlacingBackend",
    "missing_by_backend",
    "open_backend",
    "reopen_backend",
]

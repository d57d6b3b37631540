"""`Backend`: what every way of running a network offers, and `BACKENDS`, a row for each of them.

This module imports no framework, so that the command line can list the backends in `--help`.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias, get_args, runtime_checkable

from starsearch.errors import BackendError, did_you_mean
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from starsearch.families.family import Architecture
    from starsearch.latency.device import Device
    from starsearch.latency.paired import Timer

BACKENDS = {
    "onnxruntime-cpu": "starsearch.latency.backends.onnxruntime:Cpu",
    "onnxruntime-cuda": "starsearch.latency.backends.onnxruntime:Cuda",
    "onnxruntime-tensorrt": "starsearch.latency.backends.onnxruntime:TensorRt",
    "coreml": "starsearch.latency.backends.coreml:Mac",
    "coreml-iphone": "starsearch.latency.backends.coreml:Iphone",
    "torch-eager": "starsearch.latency.backends.torch_eager:TorchEager",
}
"""By name, where a backend is: "module:Class", imported when it is opened. The class takes `BackendOptions`."""

Network: TypeAlias = "Architecture | bytes | nn.Module"
"""What can be timed: an architecture (with random weights), an ONNX file's bytes, a PyTorch module."""

ComputeUnits = Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"]
COMPUTE_UNITS: tuple[ComputeUnits, ...] = get_args(ComputeUnits)
UNITS_PREFIX = ", compute units "  # before the units in the text of a Core ML device's optimization


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What a backend is opened with; each reads what concerns it."""

    threads: int = 1  # processor threads that one network uses (ONNX Runtime on the CPU, PyTorch)
    compute_units: ComputeUnits = "all"  # what Core ML may use
    development_team: str = ""  # your Apple team id, with which Xcode signs the app that times networks on an iPhone

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise BackendError(f"A network runs on at least one thread; got {self.threads}.")

    @classmethod
    def of_device(cls, device: Device) -> Self:
        """Return the options of a backend that describes `device`; the team is in no description."""
        named = device.optimization.partition(UNITS_PREFIX)[2]
        units: ComputeUnits = next((units for units in COMPUTE_UNITS if units == named), "all")
        return cls(threads=device.threads or 1, compute_units=units)


class Backend(Protocol):
    """Runs networks on a device. Equal backends run networks alike; what was made ready for one serves its equals."""

    @property
    def calibration_runs(self) -> int:
        """Calls of a timer that make the reference network's time known well enough."""

    @property
    def copies(self) -> int:
        """Copies of a network that take turns, where placement in memory matters and a copy is made quickly; else 1."""

    def __hash__(self) -> int: ...

    def missing(self) -> str | None:
        """Return what this machine lacks to run it and how to get it, a sentence or two; None where it can."""

    def describe_device(self) -> Device:
        """Return what runs the networks, with the software that does."""

    def make_timer(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> Timer:
        """Make `network` ready; each call of the timer is one reading in milliseconds, batch 1.

        `rng` draws an architecture's weights and the image's values; an ONNX file has its own resolution.

        Raises:
            EvaluationError: this backend cannot run the network.
            BackendError: this backend takes no networks of this kind.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuOperation:
    """An operation that Core ML prefers to run on the CPU."""

    name: str  # name of its output, which is the layer's with underscores
    type: str  # MIL's name of it
    cost_share: float  # its share of the network's estimated cost, 0 to 1
    is_forced: bool  # whether no other allowed processor supports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a network's operations run, by shares of Core ML's own estimate of their cost.

    With a faster processor allowed, operations on the CPU are the usual surprise: data goes there and back.
    """

    cpu_share: float
    gpu_share: float
    neural_engine_share: float
    cpu_operations: tuple[CpuOperation, ...]  # most expensive first
    operations: int  # how many run on some processor: all but the constants


@runtime_checkable
class PlacingBackend(Backend, Protocol):
    """A backend whose runtime chooses a processor for each operation, and can say which."""

    def missing_for_placement(self) -> str | None:
        """Return what this machine lacks to say it and how to get it; None where nothing is missing."""

    def describe_placement(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> Placement:
        """Return where the operations of `network` run; arguments and errors as for `make_timer`."""


def open_backend(name: str, options: BackendOptions) -> Backend:
    """Return the backend of this name, which this machine can run."""
    if name not in BACKENDS:
        raise BackendError(f"Unknown backend {name!r}.{did_you_mean(name, BACKENDS)} Known: {', '.join(BACKENDS)}.")
    backend: Backend = pkgutil.resolve_name(BACKENDS[name])(options)
    missing = backend.missing()
    if missing is not None:
        raise BackendError(f"This machine cannot measure with the backend {name!r}: {missing}")
    return backend


def missing_by_backend() -> dict[str, str | None]:
    """Return by backend what this machine lacks to run it; None where it can."""
    return {name: pkgutil.resolve_name(row)(BackendOptions()).missing() for name, row in BACKENDS.items()}

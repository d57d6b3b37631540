"""`Backend`: what every way of running a network offers, and the ways there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeAlias, get_args, runtime_checkable

from starsearch.errors import BackendError, did_you_mean
from starsearch.families.family import Architecture

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from starsearch.latency.coreml_placement import Placement
    from starsearch.latency.device import Device
    from starsearch.latency.paired import Timer

Network: TypeAlias = "Architecture | bytes | nn.Module"
"""What can be timed: an architecture (with random weights), an ONNX file's bytes, a PyTorch module."""

ComputeUnits = Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"]
COMPUTE_UNITS: tuple[ComputeUnits, ...] = get_args(ComputeUnits)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What a backend is opened with; each takes what concerns it.

    Attributes:
        threads: of the processor that one network uses (ONNX Runtime on the CPU, PyTorch).
        compute_units: that Core ML may use.
        development_team: Apple's id of yours, with which Xcode signs the app that times networks on an iPhone.

    Raises:
        BackendError: fewer than one thread.
    """

    threads: int = 1
    compute_units: ComputeUnits = "all"
    development_team: str = ""

    def __post_init__(self) -> None:
        """Hold the options to their rule."""
        if self.threads < 1:
            raise BackendError(f"A network runs on at least one thread; got {self.threads}.")

    @classmethod
    def of_device(cls, device: Device, *, development_team: str = "") -> Self:
        """The options that a backend which describes `device` was opened with; the team is in no description."""
        from starsearch.latency.backends.coreml import compute_units_of

        return cls(
            threads=device.threads or 1, compute_units=compute_units_of(device), development_team=development_team
        )


class Backend(Protocol):
    """Runs networks on a device. What was made ready for one is kept for its equals."""

    def __hash__(self) -> int:
        """Equal for backends that run networks alike."""

    @property
    def calibration_runs(self) -> int:
        """Calls of a timer that make the reference network's time known well enough."""

    @property
    def copies(self) -> int:
        """Of a network that take turns, where placement in memory matters and a copy is made quickly; else 1."""

    def missing(self) -> str | None:
        """What this machine lacks to run it and how to get it, a sentence or two; None where nothing is missing."""

    def describe_device(self) -> Device:
        """What runs the networks, with the software that does."""

    def make_timer(self, network: Network, *, resolution: int, rng: np.random.Generator) -> Timer:
        """`network` made ready; each call of the timer is one reading in milliseconds, batch 1.

        Args:
            network: what is timed.
            resolution: of its image in pixels; an ONNX file has its own.
            rng: of random weights and of the image's values.

        Raises:
            EvaluationError: the network cannot be run by this backend.
            BackendError: the backend takes no networks of this kind.
        """


@runtime_checkable
class PlacingBackend(Backend, Protocol):
    """A backend whose runtime chooses a processor for each operation, and can tell which."""

    def missing_for_placement(self) -> str | None:
        """What this machine lacks to tell and how to get it, a sentence or two; None where nothing is missing."""

    def describe_placement(self, network: Network, *, resolution: int, rng: np.random.Generator) -> Placement:
        """Where the operations of `network` run; arguments as for `make_timer`.

        Raises:
            EvaluationError: the runtime refuses the network, or cannot tell.
            BackendError: the backend takes no networks of this kind.
        """


def open_backend(name: str, options: BackendOptions) -> Backend:
    """The backend of this name, on a machine that can run it.

    Raises:
        BackendError: no backend has the name, or this machine lacks something that it needs.
    """
    if name not in BACKENDS:
        raise BackendError(f"Unknown backend {name!r}.{did_you_mean(name, BACKENDS)} Known: {', '.join(BACKENDS)}.")
    backend = BACKENDS[name](options)
    missing = backend.missing()
    if missing is not None:
        raise BackendError(f"This machine cannot measure with the backend {name!r}: {missing}")
    return backend


def reopen_backend(name: str, device: Device, *, development_team: str = "") -> Backend:
    """The backend as it was when it described `device`: with its threads and compute units, here.

    It may describe another device now: `Device.differences` tells.

    Args:
        name: of the backend.
        device: of a profile or a reference.
        development_team: Apple's id of yours, for an iPhone.

    Raises:
        BackendError: no backend has the name, or this machine lacks something that it needs.
    """
    return open_backend(name, BackendOptions.of_device(device, development_team=development_team))


def missing_by_backend() -> dict[str, str | None]:
    """By backend, what this machine lacks to run it; None where it can."""
    return {name: make(BackendOptions()).missing() for name, make in BACKENDS.items()}


def _onnxruntime_cpu(options: BackendOptions) -> Backend:
    from starsearch.latency.backends.onnxruntime_cpu import OnnxRuntimeCpu

    return OnnxRuntimeCpu(threads=options.threads)


def _onnxruntime_cuda(_: BackendOptions) -> Backend:
    from starsearch.latency.backends.onnxruntime_gpu import OnnxRuntimeGpu

    return OnnxRuntimeGpu(accelerator="CUDA")


def _onnxruntime_tensorrt(_: BackendOptions) -> Backend:
    from starsearch.latency.backends.onnxruntime_gpu import OnnxRuntimeGpu

    return OnnxRuntimeGpu(accelerator="TensorRT")


def _coreml_mac(options: BackendOptions) -> Backend:
    from starsearch.latency.backends.coreml import CoreMl

    return CoreMl(compute_units=options.compute_units, target="mac")


def _coreml_iphone(options: BackendOptions) -> Backend:
    from starsearch.latency.backends.coreml import CoreMl

    return CoreMl(compute_units=options.compute_units, target="iphone", development_team=options.development_team)


def _torch_eager(options: BackendOptions) -> Backend:
    from starsearch.latency.backends.torch_eager import TorchEager

    return TorchEager(threads=options.threads)


BACKENDS: Mapping[str, Callable[[BackendOptions], Backend]] = {
    "onnxruntime-cpu": _onnxruntime_cpu,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "onnxruntime-tensorrt": _onnxruntime_tensorrt,
    "coreml": _coreml_mac,
    "coreml-iphone": _coreml_iphone,
    "torch-eager": _torch_eager,
}

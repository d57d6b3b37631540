"""Core ML on this Mac or on an iPhone attached to it.

Run here only for what it says where there is no Mac.
"""

from __future__ import annotations

import atexit
import contextlib
import platform
import statistics
import tempfile
import weakref
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from starsearch.latency.backends.backend import COMPUTE_UNITS, ComputeUnits, Network
from starsearch.latency.backends.networks import as_layers
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.iphone import attached_iphone
from starsearch.latency.lock import computing
from starsearch.latency.paired import Timer

if TYPE_CHECKING:
    from starsearch.latency.coreml import CoreMLSession, Target
    from starsearch.latency.coreml_placement import Placement

_RUNS_A_READING = 5  # a call to a phone takes longer than a run, so that a reading is the median of a few
_PRECISION: Literal["fp16"] = "fp16"  # what the Neural Engine computes in
_UNITS = ", compute units "  # before the units in the text of a device's optimization


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreMl:
    """Core ML in half precision, with the image's normalisation inside the network, batch 1.

    Attributes:
        compute_units: that Core ML may use; which it does use for a layer is its own choice.
        target: "mac", or "iphone" for a phone that is attached, unlocked and in developer mode.
        development_team: Apple's id of yours, with which Xcode signs the app that runs on the phone.
    """

    compute_units: ComputeUnits = "all"
    target: Target = "mac"
    development_team: str = ""

    @property
    def calibration_runs(self) -> int:
        """Readings of five runs each, a second or two."""
        return 40

    @property
    def copies(self) -> int:
        """One: a program is compiled for seconds."""
        return 1

    def missing(self) -> str | None:
        """A Mac, its system's version, coremltools, Xcode, or the phone."""
        from starsearch.latency.coreml import missing_for_timing

        return missing_for_timing(self.target)

    def missing_for_placement(self) -> str | None:
        """The same, or a later system."""
        from starsearch.latency.coreml import missing_for_placement

        return missing_for_placement(self.target)

    def describe_device(self) -> Device:
        """This Mac, or the phone by its model, with the system whose Core ML runs the networks.

        Raises:
            EvaluationError: no iPhone is connected.
        """
        optimization = f"{_PRECISION}{_UNITS}{self.compute_units}"
        if self.target == "mac":
            runtime = f"Core ML of macOS {platform.mac_ver()[0]}, coremltools {_coremltools_version()}"
            return device_fingerprint(threads=None, runtime=runtime, optimization=optimization)
        phone = attached_iphone()
        return Device(
            processor=phone.model,
            cores=None,
            threads=None,
            runtime=f"Core ML of iOS {phone.ios}, coremltools {_coremltools_version()}",
            optimization=optimization,
            governor=None,
            system="iOS",
        )

    def make_timer(self, network: Network, *, resolution: int, rng: np.random.Generator) -> Timer:
        """The network as a package, loaded on the device; a reading is the median of five runs.

        Raises:
            BackendError: the network is neither an architecture nor a StarNet.
            EvaluationError: no iPhone is connected, or Core ML refuses the network.
            ExportError: coremltools cannot write it.
        """
        with contextlib.ExitStack() as undone:  # where the network is refused; else with the timer's end
            folder = undone.enter_context(tempfile.TemporaryDirectory(prefix="starsearch-"))
            package = _save_package(network, Path(folder), resolution=resolution, rng=rng)
            session = _open_session(self.target, self.development_team)
            run = session.make_timer(package, compute_units=self.compute_units)

            def read() -> float:
                return statistics.median(run(_RUNS_A_READING))

            weakref.finalize(read, undone.pop_all().close)
        return read

    def describe_placement(self, network: Network, *, resolution: int, rng: np.random.Generator) -> Placement:
        """Which processor Core ML prefers for each operation of the package that `make_timer` times.

        Raises:
            BackendError: the network is neither an architecture nor a StarNet.
            EvaluationError: the system is too old to tell, no iPhone is connected, or Core ML refuses the network.
            ExportError: coremltools cannot write it.
        """
        with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
            package = _save_package(network, Path(folder), resolution=resolution, rng=rng)
            session = _open_session(self.target, self.development_team)
            return session.place(package, compute_units=self.compute_units)


def compute_units_of(device: Device) -> ComputeUnits:
    """The compute units in a description of `CoreMl`; "all" where the device is another backend's."""
    named = device.optimization.partition(_UNITS)[2]
    return next((units for units in COMPUTE_UNITS if units == named), "all")


def _save_package(network: Network, folder: Path, *, resolution: int, rng: np.random.Generator) -> Path:
    from starsearch.export.coreml import SUFFIX, build_coreml

    layers, weights = as_layers(network, resolution=resolution, rng=rng)
    package = folder / f"model{SUFFIX}"
    with computing():
        build_coreml(layers, weights, precision=_PRECISION).save(str(package))
    return package


@cache
def _open_session(target: Target, development_team: str) -> CoreMLSession:
    """The device made ready, which on a phone takes a minute: once a process, until its end."""
    from starsearch.latency.coreml import CoreMLSession

    session = CoreMLSession(target=target, development_team=development_team).__enter__()
    atexit.register(session.__exit__, None, None, None)
    return session


def _coremltools_version() -> str:
    try:
        return version("coremltools")
    except PackageNotFoundError:
        return "absent"

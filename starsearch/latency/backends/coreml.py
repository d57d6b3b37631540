"""Core ML on this Mac or on an iPhone attached to it, timed, and where it places a network's operations.

Written against the source of coremltools 9.0 and never run on a Mac by its authors. Its `MLModelBenchmarker` cannot
draw an image as its own input, and on a phone takes and returns tensors only: the network is timed from a tensor of
pixels to its logits on either device, without reading a picture.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import platform
import shutil
import statistics
import subprocess
import tempfile
import weakref
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from starsearch.errors import BackendError, EvaluationError, ExportError
from starsearch.export.formats.coreml import SUFFIX, build_coreml, load_coremltools, quiet
from starsearch.latency.backends.backend import UNITS_PREFIX, BackendOptions, CpuOperation, Network, Placement
from starsearch.latency.backends.networks import as_module, has_layers
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing
from starsearch.latency.paired import Timer
from starsearch.resolution import Resolution

_MACOS_OF_PACKAGES = (13, 0)  # they are written for macOS 13 and iOS 16
_MACOS_OF_PLANS, _IOS_OF_PLANS = (14, 4), (17, 4)  # MLComputePlan
_RUNS_A_READING = 5  # a call to a phone takes longer than a run, so a reading is the median of a few
_PIXELS = 256
_TIMEOUT_S = 60  # devicectl waits for phones that answer slowly
_PROCESSORS = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "neural_engine"}

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Mac:
    """Core ML on this Mac, in half precision (which the Neural Engine computes in), normalisation included, batch 1."""

    options: BackendOptions

    calibration_runs: ClassVar[int] = 40  # readings of five runs each, a second or two
    copies: ClassVar[int] = 1  # a program is compiled for seconds

    def missing(self, macos: tuple[int, int] = _MACOS_OF_PACKAGES) -> str | None:
        """Return what is missing to time networks: a Mac, its system's version, coremltools, Xcode, or the phone."""
        try:
            self._check(macos)
        except (EvaluationError, ExportError) as error:
            return str(error)
        return None

    def missing_for_placement(self) -> str | None:
        """Return what is missing to know placements: the same, or a later system."""
        return self.missing(_MACOS_OF_PLANS)

    def describe_device(self) -> Device:
        """Return this Mac, with the system whose Core ML runs the networks."""
        runtime = f"Core ML of macOS {platform.mac_ver()[0]}, coremltools {_coremltools_version()}"
        return device_fingerprint(threads=None, runtime=runtime, optimization=self._optimization)

    def make_timer(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> Timer:
        """Load the network as a package on the device; a reading is the median of five runs."""
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        with contextlib.ExitStack() as undone:  # where the network is refused; else when the timer is deleted
            folder = undone.enter_context(tempfile.TemporaryDirectory(prefix="starsearch-"))
            model = self._build(network, Path(folder), resolution=resolution, rng=rng)
            benchmarker = MLModelBenchmarker(model=model, device=self._device())
            (image,) = model.get_spec().description.input
            # Always the same pixels, for no processor takes longer over one picture.
            pixels = np.random.default_rng(0).integers(_PIXELS, size=tuple(image.type.multiArrayType.shape))
            inputs = {image.name: pixels.astype(np.float32)}

            def read() -> float:
                measured = _run(benchmarker.benchmark_predict(inputs=inputs, iterations=_RUNS_A_READING, warmup=True))
                return float(statistics.median(measured.samples))

            weakref.finalize(read, undone.pop_all().close)
        return read

    def describe_placement(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> Placement:
        """Return which processor Core ML prefers for each operation of the package that `make_timer` times."""
        self._check(_MACOS_OF_PLANS)
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper

        device = self._device()  # before the loop runs, which prepares a phone

        async def plan(model: Any) -> Any:
            loaded = MLModelAsyncWrapper.from_spec_or_path(
                spec_or_path=model.get_spec(),
                weights_dir=model.weights_dir,
                compute_units=model.compute_unit,
                device=device,
            )
            await loaded.load()
            return await loaded.retrieve_compute_plan()

        with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
            model = self._build(network, Path(folder), resolution=resolution, rng=rng)
            return read_placement(_run(plan(model)))

    @property
    def _optimization(self) -> str:
        return f"fp16{UNITS_PREFIX}{self.options.compute_units}"

    def _device(self) -> Any:
        """Return the device as coremltools takes it; None is this Mac."""
        return None

    def _check(self, macos: tuple[int, int]) -> None:
        """Refuse a machine that is no Mac of that system or later, or has no coremltools."""
        what = f"Core ML runs on a Mac with macOS {'.'.join(map(str, macos))} or later"
        elsewhere = "export the package here, measure it on such a Mac, and bring the figures back as a CSV file."
        if macos == _MACOS_OF_PLANS:
            what = what.replace("runs", "tells where operations run")
            elsewhere = "export the package here and read Xcode's performance report of it on such a Mac."
        if platform.system() != "Darwin":
            raise EvaluationError(f"{what}; this machine runs {platform.system()}. Instead {elsewhere}")
        here = platform.mac_ver()[0]
        if _as_version(here) < macos:
            raise EvaluationError(f"{what}; this one has {here}. Update it, or {elsewhere}")
        load_coremltools()

    def _build(self, network: Network, folder: Path, *, resolution: Resolution, rng: np.random.Generator) -> Any:
        """Write the network as a package that reads a tensor; return it as an `MLModel` that is not loaded yet."""
        coremltools = load_coremltools()
        if not has_layers(network):
            raise BackendError(
                "Core ML times networks of the families that starsearch searches; measure other models and ONNX files "
                "with an onnxruntime backend."
            )
        package = str(folder / f"model{SUFFIX}")
        units = coremltools.ComputeUnit[self.options.compute_units.upper().replace("-", "_")]
        with computing():
            module = as_module(network, resolution=resolution, rng=rng)
            build_coreml(module, resolution=resolution, image_input=False).save(package)
            with quiet():
                return coremltools.models.MLModel(package, compute_units=units, skip_model_load=True)


@dataclass(frozen=True, slots=True)
class Iphone(Mac):
    """The same on an iPhone that is attached to this Mac, unlocked and in developer mode."""

    def describe_device(self) -> Device:
        """Return the phone by its model, with the system whose Core ML runs the networks."""
        phone = attached_iphone()
        runtime = f"Core ML of iOS {phone.ios}, coremltools {_coremltools_version()}"
        return Device(processor=phone.model, runtime=runtime, optimization=self._optimization, system="iOS")

    def _device(self) -> Any:
        return _prepare_iphone(self.options.development_team)

    def _check(self, macos: tuple[int, int]) -> None:
        Mac._check(self, macos)
        missing = [tool for tool in ("devicectl", "xcodebuild") if shutil.which(tool) is None]
        if missing:
            raise EvaluationError(
                f"An iPhone is reached through Xcode 15 or later; {' and '.join(missing)} cannot be found. Install "
                "Xcode, run xcode-select --switch on it, and put the folder of `xcrun --find devicectl` on PATH."
            )
        ios = attached_iphone().ios
        if macos == _MACOS_OF_PLANS and _as_version(ios) < _IOS_OF_PLANS:
            needed = ".".join(map(str, _IOS_OF_PLANS))
            raise EvaluationError(f"Core ML tells its placement from iOS {needed} on; the iPhone has {ios}. Update it.")


class AttachedIphone(NamedTuple):
    """A phone by its model ("iPhone 15 Pro") and system ("18.1"), without the name its owner gave it."""

    model: str
    ios: str


@cache
def attached_iphone() -> AttachedIphone:
    """Return the connected iPhone that Apple's devicectl lists first; asked once per process, until one is found."""
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        file = Path(folder) / "devices.json"
        command = ["xcrun", "devicectl", "list", "devices", "--json-output", str(file)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603 - fixed
            listed = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise EvaluationError(
                f"Apple's devicectl cannot say which iPhones are connected ({error}); see what `xcrun devicectl list "
                "devices` prints."
            ) from error
    for device in listed.get("result", {}).get("devices", []):
        hardware, software = device.get("hardwareProperties", {}), device.get("deviceProperties", {})
        is_connected = str(device.get("connectionProperties", {}).get("tunnelState", "")).lower() == "connected"
        if is_connected and str(hardware.get("deviceType", "")).lower() == "iphone":
            model = hardware.get("marketingName") or hardware.get("productType") or "iPhone"
            return AttachedIphone(str(model), str(software.get("osVersionNumber") or "of unknown version"))
    raise EvaluationError(
        "No iPhone is connected. Attach one by cable, unlock it, trust this Mac, switch on its developer mode "
        "(Settings, Privacy & Security), and see that `xcrun devicectl list devices` calls it connected."
    )


@cache
def _prepare_iphone(development_team: str) -> Any:
    """Return the attached iPhone as coremltools' `Device`, its app running; once per process, which takes a minute."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    iphones = Device.get_connected_devices(DeviceType.IPHONE)
    if not iphones:
        attached_iphone()  # says why, unless it has been attached just now
        raise EvaluationError("coremltools finds no connected iPhone where devicectl does. Reconnect it and try again.")
    folder = tempfile.TemporaryDirectory(prefix="starsearch-")  # the app's, until this process ends
    atexit.register(folder.cleanup)
    (Path(folder.name) / "build").mkdir()  # coremltools 9.0 works in it and does not make it
    credentials = AppSigningCredentials(development_team=development_team)
    prepared = iphones[0].prepare_for_model_debugging(credentials=credentials, working_directory=Path(folder.name))
    device = _run(prepared)
    atexit.register(device.session.stop)
    return device


_runner = cache(asyncio.Runner)


def _run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        return _runner().run(coroutine)
    except EvaluationError:
        raise
    except Exception as error:  # coremltools' errors on a device have no common base but this
        raise EvaluationError(f"Core ML could not run the package: {error}") from error


def read_placement(plan: Any) -> Placement:
    """Return the placement that a coremltools `MLComputePlan` describes; constants have no processor."""
    program = plan.model_structure.program
    if program is None:
        raise EvaluationError("Core ML's plan is not of a program; only packages that starsearch exported are placed.")
    cost = dict.fromkeys(_PROCESSORS.values(), 0.0)
    on_cpu, operations = [], 0
    for operation in program.functions["main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is None:
            continue
        operations += 1
        estimate = plan.get_estimated_cost_for_mlprogram_operation(operation)
        weight = 0.0 if estimate is None else float(estimate.weight)
        preferred = _processor(usage.preferred_compute_device)
        cost[preferred] += weight
        if preferred == "cpu":
            is_forced = {_processor(device) for device in usage.supported_compute_devices} <= {"cpu"}
            on_cpu.append((weight, operation.outputs[0].name, operation.operator_name, is_forced))
    total = sum(cost.values())
    if total <= 0:
        raise EvaluationError("Core ML estimates no costs for this package; that needs macOS 14.4 or iOS 17.4.")
    return Placement(
        **{f"{processor}_share": value / total for processor, value in cost.items()},
        cpu_operations=tuple(
            CpuOperation(name=name, type=kind, cost_share=weight / total, is_forced=is_forced)
            for weight, name, kind, is_forced in sorted(on_cpu, key=lambda one: -one[0])
        ),
        operations=operations,
    )


def _processor(device: Any) -> str:
    name = type(device).__name__
    if name not in _PROCESSORS:
        raise EvaluationError(f"Core ML chose {name}, a processor that starsearch does not know.")
    return _PROCESSORS[name]


def _as_version(text: str) -> tuple[int, ...]:
    """Return the first two numbers: (14, 2) of "14.2.1"; none where it has none."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _coremltools_version() -> str:
    try:
        return version("coremltools")
    except PackageNotFoundError:
        return "absent"

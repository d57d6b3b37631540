"""Timing a network with Core ML on a Mac or an attached iPhone, and where Core ML places its operations.

Both take a Mac. Written against the source of coremltools 9.0: its `MLModelBenchmarker` gives milliseconds, cannot
draw an image as its own input, and on a phone takes and returns tensors only. Hence the network is timed from a tensor
of pixels to its logits (or probabilities) on either device; reading a picture and looking up the label are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import EvaluationError, ExportError
from starsearch.export.coreml_library import load_coremltools, quiet_conversion
from starsearch.export.coreml_reading import WEIGHTS_FOLDER
from starsearch.latency.backends.backend import COMPUTE_UNITS, ComputeUnits
from starsearch.latency.coreml_placement import Placement, read_placement
from starsearch.latency.coreml_tensor import tensor_spec
from starsearch.latency.iphone import attached_iphone

Target = Literal["mac", "iphone"]
TARGETS: tuple[Target, ...] = ("mac", "iphone")

_MACOS_OF_PACKAGES = (13, 0)  # they are written for macOS 13 and iOS 16
_MACOS_OF_PLANS, _IOS_OF_PLANS = (14, 4), (17, 4)  # MLComputePlan
_PIXELS = 256

_Result = TypeVar("_Result")


def missing_for_timing(target: Target = "mac") -> str | None:
    """What this machine lacks to time packages on the target, a sentence or two; None where nothing is missing."""
    return _missing(target, _MACOS_OF_PACKAGES)


def missing_for_placement(target: Target = "mac") -> str | None:
    """What this machine lacks to tell which processor runs an operation; None where nothing is missing."""
    missing = _missing(target, _MACOS_OF_PLANS)
    if missing is not None or target == "mac":
        return missing
    ios = attached_iphone().ios
    if _as_version(ios) >= _IOS_OF_PLANS:
        return None
    return f"Core ML tells its placement from iOS {_dotted(_IOS_OF_PLANS)} on; the iPhone has {ios}. Update it."


def place_operations(
    package: Path, *, compute_units: ComputeUnits = "all", target: Target = "mac", development_team: str = ""
) -> Placement:
    """Where Core ML would run each operation of the package, and at what share of the cost.

    Args:
        package: of `starsearch.export.export_coreml`.
        compute_units: what Core ML may use.
        target: this Mac, or the iPhone attached to it.
        development_team: Apple's id of yours, with which Xcode signs the app that runs on the phone.

    Raises:
        EvaluationError: this machine cannot do it (the text says what it takes), or Core ML refuses the package.
    """
    with CoreMLSession(target=target, development_team=development_team) as session:
        return session.place(package, compute_units=compute_units)


class CoreMLSession:
    """Core ML on this Mac, or on the iPhone attached to it, for as long as the `with` block lasts.

    Args:
        target: "mac" or "iphone".
        development_team: Apple's id of yours, with which Xcode signs the app that runs on the phone.

    Raises:
        EvaluationError: this machine cannot do it, or (at the beginning of the block) no iPhone is connected.
    """

    def __init__(self, *, target: Target = "mac", development_team: str = "") -> None:
        if target not in TARGETS:
            raise EvaluationError(f"target is one of {', '.join(TARGETS)}; got {target!r}.")
        _check_machine(target, _MACOS_OF_PACKAGES)
        try:
            self._coremltools = load_coremltools()
        except ExportError as error:
            raise EvaluationError(str(error)) from error
        self._target = target
        self._development_team = development_team
        self._device: Any = None  # of coremltools; None is this Mac
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Make the device ready: of a phone that takes a minute."""
        with self._held as held:  # undone where the phone cannot be made ready
            self._runner = held.enter_context(asyncio.Runner())
            if self._target == "iphone":
                folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
                self._device = self._run(_prepare_iphone(folder, self._development_team))
                held.callback(self._device.session.stop)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the app on the phone."""
        self._held.close()

    def make_timer(self, package: Path, *, compute_units: ComputeUnits = "all") -> Callable[[int], list[float]]:
        """A function of a number of runs that returns as many milliseconds, after a run that is not counted.

        Its first call loads the package; it stays loaded.

        Raises:
            EvaluationError: there is no such package, or (by the function) Core ML refuses it, or runs are below 1.
        """
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        model = self._open(package, compute_units)
        benchmarker = MLModelBenchmarker(model=model, device=self._device)
        inputs = _draw_inputs(model.get_spec())

        def read(runs: int) -> list[float]:
            if runs < 1:
                raise EvaluationError(f"A latency takes at least 1 run; got {runs}.")
            measured = self._run(benchmarker.benchmark_predict(inputs=inputs, iterations=runs, warmup=True))
            return [float(sample_ms) for sample_ms in measured.samples]

        return read

    def place(self, package: Path, *, compute_units: ComputeUnits = "all") -> Placement:
        """Where Core ML would run each operation.

        Raises:
            EvaluationError: the system is too old to tell, there is no such package, or Core ML refuses it.
        """
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper

        _check_machine(self._target, _MACOS_OF_PLANS)
        model = self._open(package, compute_units)

        async def plan() -> Any:
            loaded = MLModelAsyncWrapper.from_spec_or_path(
                spec_or_path=model.get_spec(),
                weights_dir=model.weights_dir,
                compute_units=model.compute_unit,
                device=self._device,
            )
            await loaded.load()
            return await loaded.retrieve_compute_plan()

        return read_placement(self._run(plan()))

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return self._runner.run(coroutine)
        except EvaluationError:
            raise
        except Exception as error:  # coremltools' errors on a device have no common base but this
            raise EvaluationError(f"Core ML could not run the package: {error}") from error

    def _open(self, package: Path, compute_units: ComputeUnits) -> Any:
        """The package as an `MLModel` that reads and writes tensors; on the disk it stays as it is."""
        if compute_units not in COMPUTE_UNITS:
            raise EvaluationError(f"compute_units is one of {', '.join(COMPUTE_UNITS)}; got {compute_units!r}.")
        if not package.is_dir():
            raise EvaluationError(f"There is no Core ML package {package}; export one with --format coreml.")
        units = self._coremltools.ComputeUnit[compute_units.upper().replace("-", "_")]
        try:
            with quiet_conversion():
                spec = tensor_spec(self._coremltools.utils.load_spec(str(package)))
                weights = str(package / WEIGHTS_FOLDER)
                # Not loaded here: that is done where it is measured.
                return self._coremltools.models.MLModel(
                    spec, weights_dir=weights, compute_units=units, skip_model_load=True
                )
        except Exception as error:  # protobuf's and coremltools' errors have no common base but this
            raise EvaluationError(f"coremltools cannot read {package}: {error}") from error


def _missing(target: Target, macos: tuple[int, int]) -> str | None:
    try:
        _check_machine(target, macos)
        load_coremltools()
        if target == "iphone":
            attached_iphone()
    except (EvaluationError, ExportError) as error:
        return str(error)
    return None


def _check_machine(target: Target, macos: tuple[int, int]) -> None:
    """Raise `EvaluationError` unless this is a Mac of that system or later, and has what a phone takes."""
    if macos == _MACOS_OF_PLANS:
        what = f"Core ML tells where operations run on a Mac with macOS {_dotted(macos)} or later"
        elsewhere = "export the package here and read Xcode's performance report of it on such a Mac."
    else:
        what = f"Core ML runs on a Mac with macOS {_dotted(macos)} or later"
        elsewhere = "export the package here, measure it on such a Mac, and bring the figures back as a CSV file."
    if platform.system() != "Darwin":
        raise EvaluationError(f"{what}; this machine runs {platform.system()}. Instead {elsewhere}")
    version = platform.mac_ver()[0]
    if _as_version(version) < macos:
        raise EvaluationError(f"{what}; this one has {version}. Update it, or {elsewhere}")
    missing = [tool for tool in ("devicectl", "xcodebuild") if shutil.which(tool) is None]
    if target == "iphone" and missing:
        raise EvaluationError(
            f"An iPhone is reached through Xcode 15 or later; {' and '.join(missing)} cannot be found. Install Xcode, "
            "run xcode-select --switch on it, and put the folder of `xcrun --find devicectl` on PATH."
        )


def _as_version(text: str) -> tuple[int, ...]:
    """Its first two numbers: (14, 2) of "14.2.1"; none where it has none."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


async def _prepare_iphone(folder: Path, development_team: str) -> Any:
    """The attached iPhone as a `Device` of coremltools, whose app runs on it; built in `folder`.

    Raises:
        EvaluationError: no iPhone is connected.
    """
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    iphones = Device.get_connected_devices(DeviceType.IPHONE)
    if not iphones:
        attached_iphone()  # says why, unless it has been attached just now
        raise EvaluationError("coremltools finds no connected iPhone where devicectl does. Attach it anew, try again.")
    (folder / "build").mkdir()  # coremltools 9.0 works in it and does not make it
    credentials = AppSigningCredentials(development_team=development_team)
    return await iphones[0].prepare_for_model_debugging(credentials=credentials, working_directory=folder)


def _draw_inputs(spec: Any) -> dict[str, NDArray[np.float32]]:
    """Random pixels for the one input; always the same, for no processor takes longer over one picture."""
    (image,) = spec.description.input
    pixels = np.random.default_rng(0).integers(_PIXELS, size=tuple(image.type.multiArrayType.shape))
    return {image.name: pixels.astype(np.float32)}

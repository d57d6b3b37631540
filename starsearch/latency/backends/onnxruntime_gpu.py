"""ONNX Runtime on an NVIDIA GPU, through its CUDA or its TensorRT provider.

Written after ONNX Runtime's documentation and tested here without a GPU: the timer on the CPU provider, the
backend for what it says where the provider is absent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from starsearch.errors import BackendError, EvaluationError
from starsearch.latency.backends.backend import Network
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.device import Device, device_fingerprint, onnxruntime_version
from starsearch.latency.lock import computing
from starsearch.latency.onnxruntime import CPU_PROVIDERS, Provider, build_session, draw_input, first_line

Accelerator = Literal["CUDA", "TensorRT"]

_PROVIDERS: dict[Accelerator, str] = {"CUDA": "CUDAExecutionProvider", "TensorRT": "TensorrtExecutionProvider"}
_OPTIMIZATIONS: dict[Accelerator, str] = {
    "CUDA": "all, cuDNN's exhaustive search, TF32",
    "TensorRT": "TensorRT engine, float32 with TF32",
}
_CUDA_OPTIONS = {
    # Each convolution's fastest algorithm is searched for once, in the first run, which warming up takes.
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "cudnn_conv_use_max_workspace": "1",
    "use_tf32": "1",  # as cuDNN and PyTorch do for convolutions
}
_TENSORRT_PACKAGES = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
_UNKNOWN_GPU = "NVIDIA GPU"
_NAME_BYTES = 256  # of the buffer for a GPU's name


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntimeGpu:
    """ONNX Runtime on the first visible NVIDIA GPU; input and output stay in the GPU's memory.

    float32 (TF32 in the tensor cores): half precision overflows in activation-free stars. Without CUDA graphs, since
    few deployments use them: small networks are bound by the launching of kernels and the time says so.

    Attributes:
        accelerator: the provider.
    """

    accelerator: Accelerator

    @property
    def calibration_runs(self) -> int:
        """Below a second."""
        return 100

    @property
    def copies(self) -> int:
        """One: a GPU's memory has no such places."""
        return 1

    def missing(self) -> str | None:
        """The provider, where this build of ONNX Runtime lacks it."""
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if _PROVIDERS[self.accelerator] in available:
            return None
        tensorrt = " and TensorRT (pip install tensorrt)" if self.accelerator == "TensorRT" else ""
        return (
            f"it takes an NVIDIA GPU with its driver{tensorrt}, and ONNX Runtime's GPU build in place of the CPU one: "
            'pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]". '
            f"The build here, {onnxruntime.__version__}, has {', '.join(available)}."
        )

    def describe_device(self) -> Device:
        """The GPU, as its driver names it."""
        versions = accelerator_text(self.accelerator, cuda=_cuda_version(), tensorrt=_tensorrt_version())
        return device_fingerprint(
            threads=None,
            runtime=f"onnxruntime {onnxruntime_version()} {versions}",
            optimization=_OPTIMIZATIONS[self.accelerator],
            processor=gpu_name(),
        )

    def make_timer(self, network: Network, *, resolution: int, rng: np.random.Generator) -> IoBindingTimer:
        """A session with its input in the GPU's memory; a reading is one run up to the last kernel's end.

        Raises:
            BackendError: the provider is there but cannot load (a library of CUDA, cuDNN or TensorRT is missing).
        """
        with computing():
            session = self._build_session(as_onnx(network, resolution=resolution, rng=rng))
        return IoBindingTimer(session, memory="cuda", rng=rng)

    def _build_session(self, model: bytes) -> Any:
        import onnxruntime

        if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on: finds CUDA and cuDNN where pip installed them
            onnxruntime.preload_dlls()
        session = build_session(model, providers=self._providers())
        wanted = _PROVIDERS[self.accelerator]
        if wanted not in session.get_providers():  # ONNX Runtime goes on without a provider that fails to load
            raise BackendError(
                f"ONNX Runtime has {wanted} but could not load it, and would run on the processor. Install the CUDA "
                f'and cuDNN it was built with: pip install "onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}"'
                + (", and TensorRT: pip install tensorrt." if self.accelerator == "TensorRT" else ".")
            )
        return session

    def _providers(self) -> tuple[Provider, ...]:
        """TensorRT leaves what it does not know to CUDA, and both leave the computing of shapes to the processor."""
        cuda: Provider = (_PROVIDERS["CUDA"], _CUDA_OPTIONS)
        if self.accelerator == "CUDA":
            return (cuda, *CPU_PROVIDERS)
        # Kernel timings are kept between networks: an engine takes seconds to build instead of minutes.
        options = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(_timing_cache())}
        return ((_PROVIDERS["TensorRT"], options), cuda, *CPU_PROVIDERS)


class IoBindingTimer:
    """A session whose input lies in a device's memory; calling it runs it once and waits for its end.

    No copy between host and device is timed: it is the network's latency, not the camera's.

    Args:
        session: an `onnxruntime.InferenceSession`.
        memory: ONNX Runtime's name of where input and output lie ("cuda", "cpu").
        rng: of the input's values.

    Raises:
        EvaluationError: an input is not float or not of fixed shape.
    """

    def __init__(self, session: Any, *, memory: str, rng: np.random.Generator) -> None:
        from onnxruntime import OrtValue

        self._session = session
        self._binding = session.io_binding()
        for node in session.get_inputs():
            value = OrtValue.ortvalue_from_numpy(draw_input(node, rng), memory, 0)
            self._binding.bind_ortvalue_input(node.name, value)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, memory)

    def __call__(self) -> float:
        """Milliseconds of one run.

        Raises:
            EvaluationError: the run failed.
        """
        self._binding.synchronize_inputs()
        begin = time.perf_counter_ns()
        try:
            self._session.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EvaluationError(f"ONNX Runtime could not run the network: {first_line(error)}") from error
        return (time.perf_counter_ns() - begin) / 1e6


@cache
def gpu_name() -> str:
    """Model of the first GPU as CUDA counts them, which ONNX Runtime takes; "NVIDIA GPU" where the driver cannot tell.

    The driver's library is asked: nvidia-smi heeds neither CUDA_VISIBLE_DEVICES nor CUDA's order, fastest first.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return _UNKNOWN_GPU
    return ask_driver_for_name(driver) or _UNKNOWN_GPU


def ask_driver_for_name(driver: Any) -> str | None:
    """The name of device 0 by CUDA's driver API; None where a call fails.

    Args:
        driver: libcuda, loaded by ctypes.
    """
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    succeeded = (  # each call returns 0 where it did
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
        and driver.cuDeviceGetName(name, _NAME_BYTES, device) == 0
    )
    return name.value.decode(errors="replace").strip() or None if succeeded else None


def accelerator_text(accelerator: Accelerator, *, cuda: str, tensorrt: str) -> str:
    """What runs the network, with versions where they are known: "CUDA 12.8", "TensorRT 10.13.2, CUDA 12.8"."""
    with_cuda = f"CUDA {cuda}".strip()
    return with_cuda if accelerator == "CUDA" else f"TensorRT {tensorrt}".strip() + f", {with_cuda}"


def _cuda_version() -> str:
    """Of the CUDA that ONNX Runtime was built with; empty for a build without."""
    import onnxruntime

    return str(getattr(onnxruntime, "cuda_version", None) or "")


def _tensorrt_version() -> str:
    """Of the package that pip installed; empty where TensorRT came another way."""
    for package in _TENSORRT_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return ""


def _timing_cache() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"starsearch-tensorrt-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder

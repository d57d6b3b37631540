"""ONNX Runtime on the processor (the default, on which the paired protocol was proved) or on an NVIDIA GPU.

The GPU backends are written after ONNX Runtime's documentation and tested without a GPU: their timer on the CPU
provider, and what they say where the provider is absent.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import BackendError, EvaluationError, first_line
from starsearch.latency.backends.backend import BackendOptions, Network
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.device import Device, device_fingerprint, onnxruntime_version
from starsearch.latency.lock import computing
from starsearch.latency.paired import COPIES
from starsearch.resolution import Resolution

Provider = tuple[str, Mapping[str, str]]
"""An execution provider of ONNX Runtime, and its options."""

CPU_PROVIDERS: tuple[Provider, ...] = (("CPUExecutionProvider", {}),)
_COARSEST_TICK_S = 1e-5  # of a clock that can time a network of 1 ms to 1 %
_LIKELY_SIZES = (1, 3, 224, 224)  # of an image network's input, for the example in an error's text
_CUDA_OPTIONS = {
    # Each convolution's fastest algorithm is searched for once, in the first run, which warming up takes.
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "cudnn_conv_use_max_workspace": "1",
    "use_tf32": "1",  # as cuDNN and PyTorch do for convolutions
}


def build_session(
    model: bytes,
    *,
    threads: int = 1,
    providers: Sequence[Provider] = CPU_PROVIDERS,
    profile_prefix: Path | None = None,
) -> Any:
    """Return an `onnxruntime.InferenceSession` of an ONNX file's bytes, all graph optimisations on.

    That the first provider cannot load is an error. With a `profile_prefix` its profiler runs and writes there.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Below the layout optimisations (NCHWc) star networks run 2.3 to 2.9 times slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Two sessions in turns: the idle one's threads would spin on the cores that the other is timed on.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # what fails is raised; nothing needs to be printed as well
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise EvaluationError(
            f"ONNX Runtime {onnxruntime.__version__} takes no such network: {first_line(error)}"
        ) from error
    wanted = providers[0][0]
    if wanted not in session.get_providers():  # ONNX Runtime continues without a provider that fails to load
        raise BackendError(
            f"ONNX Runtime has {wanted} but could not load it, and would run on the processor. Install the CUDA "
            f'and cuDNN it was built with: pip install "onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}"'
            + (", and TensorRT: pip install tensorrt." if "Tensorrt" in wanted else ".")
        )
    return session


class OnnxRuntimeTimer:
    """A network made ready; calling it runs it once and returns the milliseconds that took.

    With one thread ONNX Runtime computes on the calling thread, and what counts is that thread's CPU time: it
    stands still while another process has the core. With more it is the wall's.

    With a `memory` (ONNX Runtime's name, "cuda") input and output stay on that device, so that no copy is timed: it
    is the network's latency, not the camera's.
    """

    def __init__(
        self,
        model: bytes,
        *,
        rng: np.random.Generator,
        threads: int = 1,
        providers: Sequence[Provider] = CPU_PROVIDERS,
        memory: str | None = None,
    ) -> None:
        self.computes_in_caller = threads == 1 and memory is None
        with computing():
            session = build_session(model, threads=threads, providers=providers)
        inputs = {node.name: draw_input(node, rng) for node in session.get_inputs()}
        if memory is None:
            self._run: Callable[[], object] = partial(
                session.run, [output.name for output in session.get_outputs()], inputs
            )
            self._clock_ns = clock_ns(threads)
        else:
            self._run = _bind(session, inputs, memory)
            self._clock_ns = time.perf_counter_ns

    def __call__(self) -> float:
        """Run it once; return the milliseconds."""
        begin = self._clock_ns()
        try:
            self._run()
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EvaluationError(f"ONNX Runtime could not run the network: {first_line(error)}") from error
        return (self._clock_ns() - begin) / 1e6


def _bind(session: Any, inputs: Mapping[str, NDArray[np.float32]], memory: str) -> Callable[[], None]:
    """Put the inputs into a device's memory; return what runs the session there and waits for its end."""
    from onnxruntime import OrtValue

    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(values, memory, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, memory)
    binding.synchronize_inputs()

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def draw_input(node: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw standard normal values for an input of a session, as normalised images have; none is subnormal (slow)."""
    what = (
        f"A network is timed on float inputs of fixed shape; input {node.name!r} is {node.type} of shape {node.shape}."
    )
    if node.type != "tensor(float)":
        raise EvaluationError(f"{what} Export it in float32.")
    usual = _LIKELY_SIZES if len(node.shape) == len(_LIKELY_SIZES) else (1,) * len(node.shape)
    fixed = [isinstance(size, int) and size > 0 for size in node.shape]
    if not all(fixed):
        likely = [size if known else one for size, known, one in zip(node.shape, fixed, usual, strict=True)]
        raise EvaluationError(
            f"{what} Export it with fixed sizes, or fix them: python -m onnxruntime.tools.make_dynamic_shape_fixed "
            f"--input_name {node.name} --input_shape {','.join(map(str, likely))} MODEL.onnx FIXED.onnx"
        )
    values: NDArray[np.float32] = rng.standard_normal(node.shape, dtype=np.float32)
    return values


def clock_ns(threads: int) -> Callable[[], int]:
    """Return the clock for networks of so many threads: one thread's own CPU time, or the wall's for more."""
    if threads == 1 and time.get_clock_info("thread_time").resolution <= _COARSEST_TICK_S:
        return time.thread_time_ns
    return time.perf_counter_ns  # also on Windows, whose thread clock ticks 64 times a second


@dataclass(frozen=True, slots=True)
class Cpu:
    """ONNX Runtime on the processor, all graph optimisations on, batch 1."""

    options: BackendOptions

    calibration_runs: ClassVar[int] = 100  # one to three seconds
    copies: ClassVar[int] = COPIES

    def missing(self) -> str | None:
        """Return None: ONNX Runtime comes with starsearch."""
        return None

    def describe_device(self) -> Device:
        """Return this machine's processor."""
        return device_fingerprint(threads=self.options.threads)

    def make_timer(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> OnnxRuntimeTimer:
        """Make a session of the network; a reading is one run."""
        model = as_onnx(network, resolution=resolution, rng=rng)
        return OnnxRuntimeTimer(model, rng=rng, threads=self.options.threads)


@dataclass(frozen=True, slots=True)
class Cuda:
    """ONNX Runtime on the first visible NVIDIA GPU; input and output stay in the GPU's memory.

    float32 (TF32 in the tensor cores): half precision overflows in activation-free stars. Without CUDA graphs, since
    few deployments use them: small networks are bound by the launching of kernels and the time says so.
    """

    options: BackendOptions

    calibration_runs: ClassVar[int] = 100  # below a second
    copies: ClassVar[int] = 1  # a GPU's memory has no faster and slower places
    provider: ClassVar[str] = "CUDAExecutionProvider"
    optimization: ClassVar[str] = "all, cuDNN's exhaustive search, TF32"
    also_needed: ClassVar[str] = ""

    def missing(self) -> str | None:
        """Name the provider, where this build of ONNX Runtime lacks it."""
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if self.provider in available:
            return None
        return (
            f"it needs an NVIDIA GPU with its driver{self.also_needed}, and ONNX Runtime's GPU build in place of the "
            'CPU one: pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]". '
            f"The build here, {onnxruntime.__version__}, has {', '.join(available)}."
        )

    def describe_device(self) -> Device:
        """Return the first GPU in CUDA's order, which ONNX Runtime takes, as its driver names it."""
        import torch

        return device_fingerprint(
            threads=None,
            runtime=f"onnxruntime {onnxruntime_version()} {self.versions()}",
            optimization=self.optimization,
            processor=torch.cuda.get_device_name(0) if torch.cuda.is_available() else "NVIDIA GPU",
        )

    def versions(self) -> str:
        """Return the CUDA that ONNX Runtime was built with, where it says: "CUDA 12.8"."""
        import onnxruntime

        return f"CUDA {getattr(onnxruntime, 'cuda_version', None) or ''}".strip()

    def providers(self) -> tuple[Provider, ...]:
        """Return the provider, and the processor, to which it leaves the computing of shapes."""
        return ((self.provider, _CUDA_OPTIONS), *CPU_PROVIDERS)

    def make_timer(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> OnnxRuntimeTimer:
        """Make a session with its input in the GPU's memory; a reading is one run up to the last kernel's end."""
        import onnxruntime

        if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on: finds CUDA and cuDNN where pip installed them
            onnxruntime.preload_dlls()
        model = as_onnx(network, resolution=resolution, rng=rng)
        return OnnxRuntimeTimer(model, rng=rng, providers=self.providers(), memory="cuda")


@dataclass(frozen=True, slots=True)
class TensorRt(Cuda):
    """The same through TensorRT, which leaves what it does not know to CUDA."""

    provider: ClassVar[str] = "TensorrtExecutionProvider"
    optimization: ClassVar[str] = "TensorRT engine, float32 with TF32"
    also_needed: ClassVar[str] = " and TensorRT (pip install tensorrt)"

    def versions(self) -> str:
        """Return the versions of TensorRT and CUDA, where they are known: "TensorRT 10.13.2, CUDA 12.8"."""
        found = ""
        for package in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
            with contextlib.suppress(PackageNotFoundError):  # installed in another way than by pip
                found = found or version(package)
        return f"TensorRT {found}".strip() + f", {Cuda.versions(self)}"

    def providers(self) -> tuple[Provider, ...]:
        """Keep kernel timings between networks: an engine takes seconds to build instead of minutes."""
        folder = Path(tempfile.gettempdir()) / f"starsearch-tensorrt-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        folder.mkdir(mode=0o700, exist_ok=True)
        options = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}
        return ((self.provider, options), (Cuda.provider, _CUDA_OPTIONS), *CPU_PROVIDERS)

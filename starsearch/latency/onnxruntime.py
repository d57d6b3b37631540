"""Timing a network with ONNX Runtime on the processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import EvaluationError
from starsearch.latency.lock import computing

Provider = str | tuple[str, Mapping[str, str]]
"""An execution provider of ONNX Runtime: its name, or its name and options."""

CPU_PROVIDERS: tuple[Provider, ...] = ("CPUExecutionProvider",)

_COARSEST_TICK_S = 1e-5  # of a clock that can time a network of 1 ms to 1 %
_LIKELY_SIZES = (1, 3, 224, 224)  # of an image network's input, for the example in an error's text


class OnnxRuntimeTimer:
    """A network made ready; calling it runs it once and returns the milliseconds that took.

    With one thread ONNX Runtime computes on the calling thread, and what counts is that thread's CPU time: it
    stands still while another process has the core. With more it is the wall's.

    Args:
        model: the ONNX file's bytes, inputs of fixed shape.
        rng: of the input's values.
        threads: that the network may use.

    Attributes:
        computes_in_caller: whether a run computes in the calling thread and in no other.

    Raises:
        EvaluationError: ONNX Runtime refuses the model or cannot run it, or an input is not fixed.
    """

    def __init__(self, model: bytes, *, rng: np.random.Generator, threads: int = 1) -> None:
        self.computes_in_caller = threads == 1
        with computing():
            session = build_session(model, threads=threads)
        self._run = session.run
        self._outputs = [output.name for output in session.get_outputs()]
        self._inputs = {node.name: draw_input(node, rng) for node in session.get_inputs()}
        self._clock_ns = clock_ns(threads)

    def __call__(self) -> float:
        """Milliseconds of one run.

        Raises:
            EvaluationError: the run failed.
        """
        begin = self._clock_ns()
        try:
            self._run(self._outputs, self._inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EvaluationError(f"ONNX Runtime could not run the network: {first_line(error)}") from error
        return (self._clock_ns() - begin) / 1e6


def build_session(
    model: bytes,
    *,
    threads: int = 1,
    providers: Sequence[Provider] = CPU_PROVIDERS,
    profile_prefix: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession`, all graph optimisations on.

    Args:
        model: the ONNX file's bytes.
        threads: of the processor that it may use.
        providers: what runs the operators, most wanted first, as ONNX Runtime takes them.
        profile_prefix: where its profiler writes, with what it appends to the name; None runs without it.

    Raises:
        EvaluationError: ONNX Runtime refuses the model.
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
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise EvaluationError(
            f"ONNX Runtime {onnxruntime.__version__} takes no such network: {first_line(error)}"
        ) from error


def draw_input(node: Any, rng: np.random.Generator) -> NDArray[np.float32]:
    """Standard normal values, as normalised images have; subnormal ones, which compute slowly, do not occur.

    Args:
        node: an input, as a session's `get_inputs` describes it.
        rng: of the values.

    Raises:
        EvaluationError: the input is not float, or a size of its shape is not fixed.
    """
    what = (
        f"A network is timed on float inputs of fixed shape; input {node.name!r} is {node.type} of shape {node.shape}."
    )
    if node.type != "tensor(float)":
        raise EvaluationError(f"{what} Export it in float32.")
    if not all(_is_fixed(size) for size in node.shape):
        raise EvaluationError(
            f"{what} Export it with fixed sizes, or fix them: python -m onnxruntime.tools.make_dynamic_shape_fixed "
            f"--input_name {node.name} --input_shape {_likely_shape(node.shape)} MODEL.onnx FIXED.onnx"
        )
    values: NDArray[np.float32] = rng.standard_normal(node.shape, dtype=np.float32)
    return values


def clock_ns(threads: int) -> Callable[[], int]:
    """The clock for networks of so many threads: the calling thread's CPU time for one, the wall's for more."""
    if threads == 1 and time.get_clock_info("thread_time").resolution <= _COARSEST_TICK_S:
        return time.thread_time_ns
    return time.perf_counter_ns  # also on Windows, whose thread clock ticks 64 times a second


def _is_fixed(size: Any) -> bool:
    return isinstance(size, int) and size > 0


def _likely_shape(shape: Sequence[Any]) -> str:
    """The shape with what is not fixed as in an image of 224 pixels: "1,3,224,224"."""
    likely = _LIKELY_SIZES if len(shape) == len(_LIKELY_SIZES) else (1,) * len(shape)
    return ",".join(str(size if _is_fixed(size) else usual) for size, usual in zip(shape, likely, strict=True))


def first_line(error: Exception) -> str:
    """The error's text up to its first line's end; its type's name where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

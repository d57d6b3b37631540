"""`measure`: a network's milliseconds on this machine or on a device attached to it, in pairs with a reference."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from starsearch.latency.backends import Backend, BackendOptions, ComputeUnits, Network, open_backend
from starsearch.latency.backends.onnxruntime_cpu import OnnxRuntimeCpu
from starsearch.latency.caveats import find_caveats
from starsearch.latency.device import Device
from starsearch.latency.lock import computing
from starsearch.latency.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import DEFAULT_LIMITS, Copies, PairLimits, Timer, measure_paired
from starsearch.latency.reference import Reference, calibrate_reference, reference_timer
from starsearch.measurement import Measurement, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """How a latency is measured.

    Attributes:
        backend: what runs the network, a name of `starsearch.latency.backends.BACKENDS`.
        threads: of the processor that the network uses.
        compute_units: that Core ML may use.
        development_team: Apple's id of yours, with which Xcode signs the app that times networks on an iPhone.
        resolution: of the image in pixels; an ONNX file has its own.
        limits: when enough pairs have been timed.
        seed: of random weights, of the image's values and of the order within the pairs.
        reference: the scale; None calibrates it now.
    """

    backend: str = "onnxruntime-cpu"
    threads: int = 1
    compute_units: ComputeUnits = "all"
    development_team: str = ""
    resolution: int = 224
    limits: PairLimits = DEFAULT_LIMITS
    seed: int = 0
    reference: Reference | None = None

    @classmethod
    def like(cls, backend: str, device: Device, **changes: Any) -> Self:
        """How `backend` measured when it described `device` (its threads and compute units), with `changes`.

        Args:
            backend: its name, as a profile has it.
            device: as the profile or a reference has it.
            changes: other attributes, such as the resolution and the reference.
        """
        options = BackendOptions.of_device(device)
        known = {"backend": backend, "threads": options.threads, "compute_units": options.compute_units}
        return cls(**{**known, **changes})

    def open_backend(self) -> Backend:
        """The backend with these options.

        Raises:
            BackendError: no backend has the name, or this machine lacks something that it needs.
        """
        options = BackendOptions(
            threads=self.threads, compute_units=self.compute_units, development_team=self.development_team
        )
        return open_backend(self.backend, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measured latency, batch 1; never to be taken for a predicted one.

    The errors are those of the ratio on the reference's scale. The scale's own error is left out: it is the same for
    all that is measured with this reference.

    Attributes:
        ms: median ratio to the reference network × its calibrated time.
        spread_ms: standard error of `ms`.
        interval_ms: of `ms`, 95 %.
        ratio: to the reference network's time.
        pairs: how many were timed.
        outliers: pairs far from the median.
        is_closed: whether the interval became as narrow as was wanted.
        reference: the scale.
        device: that was measured on.
        notes: what a reader should know (a busy or throttling machine), a sentence or two each.
    """

    ms: float
    spread_ms: float
    interval_ms: tuple[float, float]
    ratio: float
    pairs: int
    outliers: int
    is_closed: bool
    reference: Reference
    device: Device
    notes: tuple[str, ...] = ()


def measure(model: Network, spec: MeasureSpec | None = None) -> Generator[Progress, None, Measured]:
    """Measure `model`, alone on this machine; yields after each stretch of runs.

    An interval that does not close within the limits is no error: what was measured is returned, with a note.

    Args:
        model: an architecture (random weights), an ONNX file's bytes with inputs of fixed shape, or a module.
        spec: how; by default ONNX Runtime, one thread.

    Raises:
        BackendError: the backend is not known, cannot run here, or takes no such model.
        EvaluationError: the backend refuses the network or cannot run it, an input is not fixed, a run took no time,
            or the reference was calibrated on another device.
    """
    spec = spec or MeasureSpec()
    backend = spec.open_backend()
    if spec.reference is not None:
        spec.reference.check_device(backend.describe_device())
    rng = np.random.default_rng(spec.seed)

    def make() -> Timer:
        with computing():
            return backend.make_timer(model, resolution=spec.resolution, rng=rng)

    candidate = Copies(make, backend.copies)
    if spec.reference is None:  # only now: who named a network that cannot run need not wait to be told
        yield Progress(fraction=0.0, stage="calibration")
    reference = spec.reference or calibrate_reference(backend=backend)
    return (yield from _measure_ready(candidate, backend, reference=reference, rng=rng, limits=spec.limits))


def measure_latency(
    model: bytes, *, reference: Reference, rng: np.random.Generator, limits: PairLimits = DEFAULT_LIMITS
) -> Generator[Progress, None, Measurement]:
    """Measure `latency_ms` with ONNX Runtime on the processor, as one of an evaluation's measurements.

    Args:
        model: the ONNX file's bytes, inputs of fixed shape.
        reference: the scale, from `calibrate_reference` on this machine.
        rng: of the input's values and of the order within the pairs.
        limits: when enough pairs have been timed.

    Raises:
        EvaluationError: ONNX Runtime refuses the model or cannot run it, an input is not fixed, a run took no
            time, or the reference was calibrated on another device.
    """
    threads = reference.device.threads or 1
    backend = OnnxRuntimeCpu(threads=threads)
    reference.check_device(backend.describe_device())
    candidate = Copies(lambda: OnnxRuntimeTimer(model, rng=rng, threads=threads), backend.copies)
    measured = yield from _measure_ready(candidate, backend, reference=reference, rng=rng, limits=limits)
    return Measurement(
        name="latency_ms",
        value=measured.ms,
        runs=measured.pairs,
        spread=measured.spread_ms,
        device=measured.device.text,
    )


def _measure_ready(
    candidate: Timer, backend: Backend, *, reference: Reference, rng: np.random.Generator, limits: PairLimits
) -> Generator[Progress, None, Measured]:
    """Time the pairs and put their ratio on the reference's scale."""
    paired = yield from measure_paired(candidate, reference_timer(backend), rng=rng, limits=limits)
    device = backend.describe_device()
    return Measured(
        ms=paired.ratio * reference.ms,
        spread_ms=paired.spread * reference.ms,
        interval_ms=(paired.interval.low * reference.ms, paired.interval.high * reference.ms),
        ratio=paired.ratio,
        pairs=paired.pairs,
        outliers=paired.outliers,
        is_closed=paired.is_closed,
        reference=reference,
        device=device,
        notes=find_caveats(paired, limits=limits, reference_ms=reference.ms, device=device),
    )

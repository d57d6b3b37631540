"""`measure_latency`: a network's milliseconds on this machine."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from starsearch.latency.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import DEFAULT_LIMITS, PairLimits, measure_paired
from starsearch.latency.reference import Reference, reference_timer
from starsearch.measurement import Measurement, Progress


def measure_latency(
    model: bytes, *, reference: Reference, rng: np.random.Generator, limits: PairLimits = DEFAULT_LIMITS
) -> Generator[Progress, None, Measurement]:
    """Measure `latency_ms` against the reference network, alone on this machine; yields after each stretch.

    The spread is that of the ratio on the reference's scale. The scale's own error is left out: it is the same
    for all that is measured with this reference.

    Args:
        model: the ONNX file's bytes, inputs of fixed shape.
        reference: the scale, from `calibrate_reference` on this machine.
        rng: of the input's values and of the order within the pairs.
        limits: when enough pairs have been timed.

    Raises:
        EvaluationError: ONNX Runtime refuses the model or cannot run it, an input is not fixed, a run took no
            time, or the reference was calibrated on another device.
    """
    reference.check_device()
    threads = reference.device.threads
    candidate = OnnxRuntimeTimer(model, rng=rng, threads=threads)
    paired = yield from measure_paired(candidate, reference_timer(threads=threads), rng=rng, limits=limits)
    return Measurement(
        name="latency_ms",
        value=paired.ratio * reference.ms,
        runs=paired.pairs,
        spread=paired.spread * reference.ms,
        device=reference.device.text,
    )

"""The reference network that all others are timed against, and its time on this machine, which is the scale."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from starsearch.architecture import Architecture, lower
from starsearch.errors import EvaluationError
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing, measuring
from starsearch.latency.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import Alone, Timer, take_readings
from starsearch.latency.statistics import summarize

_SEED = 0
_RESOLUTION = 224
_CALIBRATION_RUNS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What one time of the reference network is taken to be: ms = ratio × `ms`.

    A study calibrates it once and keeps it, so all its latencies are on one scale. The scale itself is good to
    the 5–7 % by which a plain median drifts; `spread` is only what the runs show.

    Attributes:
        ms: median of the reference network's runs.
        spread: standard error of `ms`.
        runs: how many were timed.
        device: what they were timed on.
    """

    ms: float
    spread: float
    runs: int
    device: Device

    def check_device(self) -> None:
        """Refuse a scale that is another machine's, ONNX Runtime's or thread count's.

        Raises:
            EvaluationError: it was calibrated on something else than this; the text says what differs.
        """
        here = device_fingerprint(threads=self.device.threads)
        differences = self.device.differences(here)
        if differences:
            raise EvaluationError(
                "A study's latencies are measured on the device it began on; recorded against this one: "
                f"{'; '.join(differences)}. Go on there, or begin a new study."
            )


@functools.cache
def reference_model() -> bytes:
    """StarNet-S1 at 224 pixels as ONNX, with random weights of a fixed seed; built once a process."""
    from starsearch.export.onnx import build_onnx
    from starsearch.export.weights import random_weights

    with computing():
        layers = lower(Architecture(), resolution=_RESOLUTION)
        return build_onnx(layers, random_weights(layers, np.random.default_rng(_SEED)))


@functools.cache
def reference_timer(*, threads: int = 1) -> Timer:
    """Times the reference network; its session is built once a process and thread count."""
    return OnnxRuntimeTimer(reference_model(), rng=np.random.default_rng(_SEED), threads=threads)


def calibrate_reference(
    *,
    threads: int = 1,
    runs: int = _CALIBRATION_RUNS,
    alone: Alone = measuring,
) -> Reference:
    """The reference network's time on this machine: one to three seconds.

    Args:
        threads: that a network uses on the device.
        runs: timed; at least two.
        alone: entered around each stretch of runs.

    Raises:
        EvaluationError: a run took no time by the clock.
    """
    readings = take_readings(reference_timer(threads=threads), runs=runs, alone=alone)
    times = summarize(readings)
    return Reference(
        ms=times.median, spread=times.spread, runs=len(readings), device=device_fingerprint(threads=threads)
    )

"""The reference network that all others are timed against, and its time on this machine, which is the scale."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.latency.backends import Backend
from starsearch.latency.backends.onnxruntime_cpu import OnnxRuntimeCpu
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing, measuring
from starsearch.latency.paired import Alone, Copies, Timer, take_readings
from starsearch.latency.statistics import summarize

_SEED = 0
_RESOLUTION = 224


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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reference:
        """What `dataclasses.asdict` made of a reference, read back from JSON or YAML."""
        return cls(**{**values, "device": Device(**values["device"])})

    def check_device(self, here: Device | None = None) -> None:
        """Refuse a scale that is another machine's, runtime's or thread count's.

        Args:
            here: what will be measured on; by default this machine's processor with as many threads.

        Raises:
            EvaluationError: it was calibrated on something else than this; the text says what differs.
        """
        differences = self.device.differences(here or device_fingerprint(threads=self.device.threads))
        if differences:
            raise EvaluationError(
                "Latencies of one scale are measured on the device it began on; recorded against this one: "
                f"{'; '.join(differences)}. Go on there, or begin a new study."
            )


@functools.cache
def reference_timer(backend: Backend) -> Timer:
    """Times StarNet-S1 at 224 pixels, with random weights of a fixed seed; made ready once a process and backend."""

    def make() -> Timer:
        with computing():
            return backend.make_timer(Architecture.of(), resolution=_RESOLUTION, rng=np.random.default_rng(_SEED))

    return Copies(make, backend.copies)


def calibrate_reference(
    *,
    threads: int = 1,
    backend: Backend | None = None,
    runs: int | None = None,
    alone: Alone = measuring,
) -> Reference:
    """The reference network's time on this machine: one to three seconds on a processor.

    Args:
        threads: that a network uses on the processor.
        backend: that runs the network; by default ONNX Runtime on the processor with so many threads.
        runs: timed; at least two; by default as many as the backend needs.
        alone: entered around each stretch of runs.

    Raises:
        EvaluationError: a run took no time by the clock.
    """
    backend = backend or OnnxRuntimeCpu(threads=threads)
    readings = take_readings(reference_timer(backend), runs=runs or backend.calibration_runs, alone=alone)
    times = summarize(readings)
    return Reference(ms=times.median, spread=times.spread, runs=len(readings), device=backend.describe_device())

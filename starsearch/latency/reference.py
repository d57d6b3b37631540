"""The reference network that all others are timed against, and its time on this machine, which is the scale."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt
from pydantic import FiniteFloat

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.latency.backends.backend import Backend, BackendOptions, open_backend
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing
from starsearch.latency.paired import Copies, Timer, take_readings
from starsearch.latency.statistics import summarize

_SEED = 0
_RESOLUTION = 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the reference network's time is taken to be: ms = ratio × `ms`.

    A study calibrates it once and keeps it, so all its latencies are on one scale. The scale itself is good to
    the 5–7 % by which a plain median drifts; `spread` is only what the runs show.
    """

    ms: Annotated[FiniteFloat, Gt(0)]  # median of the reference network's runs
    spread: float  # standard error of `ms`
    runs: int
    device: Device

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reference:
        """Read back what `dataclasses.asdict` made of a reference."""
        return cls(**{**values, "device": Device(**values["device"])})

    def check_device(self, here: Device | None = None) -> None:
        """Refuse a scale of another machine, runtime or thread count than `here`, by default this processor's."""
        differences = self.device.differences(here or device_fingerprint(threads=self.device.threads))
        if differences:
            raise EvaluationError(
                "Latencies of one scale are measured on the device it began on; recorded against this one: "
                f"{'; '.join(differences)}. Continue on that device, or begin a new study."
            )


@functools.cache
def reference_timer(backend: Backend) -> Timer:
    """Time StarNet-S1 at 224 pixels, with random weights of a fixed seed; made ready once per process and backend."""

    def make() -> Timer:
        with computing():
            return backend.make_timer(Architecture.of(), resolution=_RESOLUTION, rng=np.random.default_rng(_SEED))

    return Copies(make, backend.copies)


def calibrate_reference(backend: Backend | None = None) -> Reference:
    """Time the reference network here, one to three seconds on a processor; by default ONNX Runtime, one thread."""
    backend = backend or open_backend("onnxruntime-cpu", BackendOptions())
    readings = take_readings(reference_timer(backend), runs=backend.calibration_runs)
    times = summarize(readings)
    return Reference(ms=times.median, spread=times.spread, runs=len(readings), device=backend.describe_device())

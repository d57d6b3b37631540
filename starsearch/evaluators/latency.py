"""The latency of a candidate as the network it is deployed as: measured on this machine, or predicted.

Both are of the same network: the published stem, the data's own classes, and padded channels where ONNX Runtime on a
processor is faster with them (`starsearch.latency`'s `measure` and `predict_latency`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError, ExportError
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import LATENCY
from starsearch.progress import Progress, mapped
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.latency.reference import Reference

Y = TypeVar("Y")
T = TypeVar("T")
COREML_CPU = "coreml_cpu_percent"
_PROCESSOR = "onnxruntime-cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyEvaluator:
    """Judges a candidate by its latency alone: on a cluster, the part of an evaluation that runs on the device."""

    reference: Reference  # the scale of the machine this runs on
    timed: tuple[str, ...]  # the latencies' names; one measurement serves them all
    resolution: Resolution  # the deployed network's, in pixels
    num_classes: int  # the deployed network's

    def __call__(
        self,
        candidate: Candidate,
        *,
        seed: int,
        weights: Path | None,  # noqa: ARG002 — latency does not depend on them
        part: TrainingPart = WHOLE,
    ) -> Evaluation:
        """Yield progress; return the latencies, those that an earlier part of the training knows as they were."""
        known = {one.name: one for one in part.known}
        if known.keys() >= set(self.timed):
            return tuple(known[name] for name in self.timed)
        latency = yield from measure_latency(
            candidate.architecture,
            reference=self.reference,
            resolution=candidate.resolution or self.resolution,
            num_classes=self.num_classes,
            seed=seed,
        )
        return tuple(replace(latency, name=name) for name in self.timed)


def measure_latency(
    architecture: Architecture,
    *,
    reference: Reference,
    resolution: Resolution,
    num_classes: int,
    seed: int,
    name: str = LATENCY,
    backend: str = _PROCESSOR,
) -> Generator[Progress, None, Measurement]:
    """Yield progress; return the latency on this machine, on the scale of a reference."""
    from starsearch.latency.measure import MeasureSpec, measure

    changes = {"resolution": resolution, "num_classes": num_classes, "seed": seed, "reference": reference}
    measured = yield from measure(architecture, MeasureSpec.like(backend, reference.device, **changes))
    return measured.as_measurement(name)


def predict_latencies(
    architecture: Architecture, profiles: Mapping[str, DeviceProfile], *, resolution: Resolution, num_classes: int
) -> tuple[Prediction, ...]:
    """Return the latency on each profile's device, under the profile's name: "latency_ms", "latency_ms@LABEL"."""
    from starsearch.latency.prediction.predict import predict_latency

    return tuple(
        predict_latency(profile, architecture, name=name, resolution=resolution, num_classes=num_classes)
        for name, profile in profiles.items()
    )


def measure_coreml_placement(architecture: Architecture, *, resolution: Resolution, num_classes: int) -> Measurement:
    """Return `coreml_cpu_percent`: the share of the network's cost that Core ML prefers to run on the CPU.

    By its own estimate, with all of this Mac's compute units allowed; whether another processor could run an operation
    or not, the data goes to the CPU and back. The plan does not depend on the weights, which are random.
    """
    import numpy as np

    from starsearch.latency.backends.backend import BackendOptions
    from starsearch.latency.backends.coreml import Mac
    from starsearch.latency.backends.networks import as_module

    rng = np.random.default_rng(0)
    network = as_module(architecture, resolution=resolution, rng=rng, num_classes=num_classes)
    try:
        placed = Mac(BackendOptions()).describe_placement(network, resolution=resolution, rng=rng)
    except ExportError as error:
        raise EvaluationError(str(error)) from error
    return Measurement(name=COREML_CPU, value=100 * placed.cpu_share, device="Core ML on this Mac")


def without_measuring(steps: Generator[Y, None, T]) -> Generator[Y, None, T]:
    """Run each step of a generator inside the lock that keeps latency from being measured meanwhile."""
    from starsearch.latency.lock import computing

    return mapped(steps, lambda step: step, inside=computing)

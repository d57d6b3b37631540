"""The latency of a candidate as the network it is deployed as: measured on this machine, or predicted.

Measured or predicted, it is of the same network: the published stem, the data's own classes, and on ONNX Runtime's
processor backend padded channels, where a network leaves the blocked layout and is faster so (`starsearch.latency`'s
`measure` and `predict_latency`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.candidate import Candidate
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.progress import Progress

if TYPE_CHECKING:
    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.latency.reference import Reference

_PROCESSOR = "onnxruntime-cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeter:
    """Measures architectures on this machine, on the scale of one reference.

    Attributes:
        name: of the measurement: "latency_ms", "latency_ms@LABEL".
        reference: the scale; its device is this machine.
        resolution: of the deployed network, in pixels.
        num_classes: of the deployed network.
        seed: of the order of pairs, and of the weights where none are given.
        backend: what runs the network, of `starsearch.latency.backends`.
    """

    name: str
    reference: Reference
    resolution: int
    num_classes: int
    seed: int
    backend: str = _PROCESSOR

    def __call__(self, architecture: Architecture) -> Generator[Progress, None, Measurement]:
        """Yield progress; return the latency of the network with the published stem, padded where that is faster.

        Raises:
            EvaluationError: the network cannot be timed here, or this is not the reference's machine.
            BackendError: the backend cannot run here.
            ExportError: the network cannot be written in the backend's format.
        """
        from starsearch.latency.measure import MeasureSpec, measure

        spec = MeasureSpec.like(
            self.backend,
            self.reference.device,
            resolution=self.resolution,
            num_classes=self.num_classes,
            seed=self.seed,
            reference=self.reference,
        )
        measured = yield from measure(architecture, spec)
        return measured.as_measurement(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyEvaluator:
    """Judges a candidate by its latency alone: on a cluster, the part of an evaluation that runs on the device.

    Attributes:
        reference: the scale of the machine this runs on.
        timed: names of the latencies; one measurement serves them all.
        resolution: of the deployed network, in pixels.
        num_classes: of the deployed network.
    """

    reference: Reference
    timed: tuple[str, ...]
    resolution: int
    num_classes: int

    def __call__(
        self,
        candidate: Candidate,
        *,
        seed: int,
        weights: Path | None,  # noqa: ARG002 — latency does not depend on them
        part: TrainingPart = WHOLE,
    ) -> Evaluation:
        """Yield progress; return the latencies.

        Raises:
            EvaluationError: the network cannot be timed here, or this is not the reference's machine.
        """
        known = {one.name: one for one in part.known}
        if known.keys() >= set(self.timed):
            return tuple(known[name] for name in self.timed)
        meter = LatencyMeter(
            name=self.timed[0],
            reference=self.reference,
            resolution=self.resolution,
            num_classes=self.num_classes,
            seed=seed,
        )
        latency = yield from meter(candidate.architecture)
        return tuple(replace(latency, name=name) for name in self.timed)


def predict_latencies(
    architecture: Architecture, profiles: Mapping[str, DeviceProfile], *, resolution: int, num_classes: int
) -> tuple[Prediction, ...]:
    """The latency on the device of each profile, by the name it stands under, of the network as it is deployed there.

    Args:
        architecture: the network.
        profiles: by the name of the quantity: "latency_ms", "latency_ms@LABEL".
        resolution: of the deployed network, in pixels.
        num_classes: of the deployed network.

    Raises:
        EvaluationError: a profile has no term for one of the network's layers.
    """
    if not profiles:
        return ()
    from starsearch.latency.prediction.predict import predict_latency

    predictions = []
    for name, profile in profiles.items():
        found = predict_latency(profile, [architecture], resolution=resolution, num_classes=num_classes)
        predictions.append(
            Prediction(
                name=name,
                value=float(found.ms[0]),
                low=float(found.low_ms[0]),
                high=float(found.high_ms[0]),
                device=found.device,
                parts=found.parts[0],
            )
        )
    return tuple(predictions)

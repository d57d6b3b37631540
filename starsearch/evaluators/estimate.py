"""`EstimateEvaluator`: judges a candidate by what is known of others' accuracy, and by its own latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.accuracy.evidence import published_top1_percent
from starsearch.candidate import Candidate
from starsearch.data.synsets import NUM_IMAGENET_CLASSES
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart
from starsearch.evaluators.latency import LatencyEvaluator, predict_latencies
from starsearch.evaluators.proxy import count_cost
from starsearch.families.family import Architecture
from starsearch.measurement import Prediction, Reading
from starsearch.objective import IMAGENET_TOP1
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    from starsearch.accuracy.posterior import Posterior
    from starsearch.latency.prediction.profile import DeviceProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateEvaluator:
    """Judges a candidate without training it: its ImageNet top-1 is estimated, or known where it is published."""

    posterior: Posterior  # of ImageNet top-1
    resolution: Resolution  # that of the deployed network, in pixels; it has ImageNet's classes
    timing: LatencyEvaluator | None = None  # measures latencies on this machine; None where nothing is timed
    profiles: Mapping[str, DeviceProfile] = field(default_factory=dict)

    def __call__(
        self,
        candidate: Candidate,
        *,
        seed: int,
        weights: Path | None,
        part: TrainingPart = WHOLE,
    ) -> Evaluation:
        """Yield progress; return the estimate, MACs, parameters and latencies.

        Raises:
            EvaluationError: the network cannot be timed, or a profile has no term for one of its layers.
        """
        readings = self.untimed(candidate.architecture, *estimate_top1(self.posterior, [candidate.architecture]))
        if self.timing is not None:
            readings += yield from self.timing(candidate, seed=seed, weights=weights, part=part)
        return readings

    def untimed(self, architecture: Architecture, estimate: Prediction) -> tuple[Reading, ...]:
        """Return an architecture's readings that take no measuring."""
        deployed: dict[str, Any] = {"resolution": self.resolution, "num_classes": NUM_IMAGENET_CLASSES}
        costs = count_cost(architecture, **deployed)
        return (estimate, *costs, *predict_latencies(architecture, self.profiles, **deployed))

    def check(self) -> None:
        """Do nothing: no worker needs any data."""


def estimate_top1(posterior: Posterior, architectures: Sequence[Architecture]) -> list[Prediction]:
    """Return `imagenet_top1_percent` of each: as published first where it is, else estimated with its 90 % interval."""
    known = published_top1_percent()
    return [
        Prediction(name=IMAGENET_TOP1, value=known[network], low=known[network], high=known[network], kind="published")
        if network in known
        else Prediction(name=IMAGENET_TOP1, value=one.mean, low=one.low, high=one.high, kind="estimated")
        for network, one in zip(architectures, posterior.estimate(architectures), strict=True)
    ]

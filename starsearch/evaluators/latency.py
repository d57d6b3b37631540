"""The latency of an architecture as the network it is deployed as: measured on this machine, or predicted.

Measured or predicted, it is of the same network: the published stem, the data's own classes, and on ONNX Runtime's
processor backend padded channels, where a network leaves the blocked layout and is faster so. What is measured decides
that by timing both, what is predicted by predicting both (`starsearch.latency.padded`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.architecture import Architecture, Layer, architecture_hash, lower, pad_channels
from starsearch.candidate import Candidate
from starsearch.evaluators.evaluator import WHOLE, Evaluation, Stretch
from starsearch.evaluators.steps import scaled
from starsearch.latency.terms import has_unblocked_channels
from starsearch.measurement import Measurement, Prediction, Progress

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from starsearch.latency import Reference
    from starsearch.latency.profile import DeviceProfile

_PROCESSOR = "onnxruntime-cpu"
# Of the progress, where a network's channels may be padded: it is timed against the padded one first.
_CHOICE_SHARE = 0.5


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

    def __call__(
        self, architecture: Architecture, *, weights: Mapping[str, Any] | None = None
    ) -> Generator[Progress, None, Measurement]:
        """Yield progress; return the latency of the network with the published stem, padded where that is faster.

        Args:
            architecture: what is measured.
            weights: of the trained network; None draws some, on which its latency does not depend.

        Raises:
            EvaluationError: the network cannot be timed here, or this is not the reference's machine.
            BackendError: the backend cannot run here.
            ExportError: the network cannot be written in the backend's format.
        """
        import numpy as np

        from starsearch.export import random_weights
        from starsearch.latency import computing, measure_latency

        # Each network its own order of pairs, the same one when it is measured again.
        rng = np.random.default_rng([self.seed, int(architecture_hash(architecture), 16)])
        layers = lower(architecture, resolution=self.resolution, num_classes=self.num_classes)
        with computing():
            found = random_weights(layers, rng) if weights is None else weights
        if self.backend != _PROCESSOR:
            return (yield from self._measure_elsewhere(architecture, found))
        start = _CHOICE_SHARE if has_unblocked_channels(layers) else 0.0
        graph = yield from scaled(self._build_fastest(layers, found, rng), 0.0, start)
        measured = yield from scaled(measure_latency(graph, reference=self.reference, rng=rng), start, 1.0)
        return replace(measured, name=self.name)

    def _build_fastest(
        self, layers: tuple[Layer, ...], weights: Mapping[str, Any], rng: np.random.Generator
    ) -> Generator[Progress, None, bytes]:
        """The network as it would be exported: its channels padded, if they leave the blocked layout and that gains."""
        from starsearch.export import build_onnx, pad_weights
        from starsearch.latency import computing
        from starsearch.latency.device import vector_width
        from starsearch.latency.padded import choose_padding

        if not has_unblocked_channels(layers):
            with computing():
                return build_onnx(layers, weights)
        multiple, threads = vector_width(), self.reference.device.threads or 1
        choice = yield from choose_padding(layers, weights, multiple=multiple, rng=rng, threads=threads)
        with computing():
            if choice.multiple is None:
                return build_onnx(layers, weights)
            padded = pad_channels(layers, multiple=choice.multiple)
            return build_onnx(padded, pad_weights(layers, padded, weights))

    def _measure_elsewhere(
        self, architecture: Architecture, weights: Mapping[str, Any]
    ) -> Generator[Progress, None, Measurement]:
        """By another backend than ONNX Runtime on the processor, which takes the network as it is."""
        from starsearch.latency import MeasureSpec, computing, measure

        spec = MeasureSpec.like(
            self.backend,
            self.reference.device,
            resolution=self.resolution,
            seed=self.seed,
            reference=self.reference,
        )
        with computing():
            # A backend takes an architecture for one of 1000 classes.
            module = _build_module(architecture, self.num_classes, weights)
        found = yield from measure(module, spec)
        return Measurement(
            name=self.name, value=found.ms, runs=found.pairs, spread=found.spread_ms, device=found.device.text
        )


def _build_module(architecture: Architecture, num_classes: int, weights: Mapping[str, Any]) -> nn.Module:
    """The deployed network in eval mode; the caller's random numbers stay as they are."""
    import torch

    from starsearch.models import build_model

    with torch.random.fork_rng(devices=[]):
        model = build_model(architecture, num_classes=num_classes)
    # Not strict: random weights leave out the batch norms' counters of training steps.
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=False)
    return model.eval()


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
        stretch: Stretch = WHOLE,
    ) -> Evaluation:
        """Yield progress; return the latencies.

        Raises:
            EvaluationError: the network cannot be timed here, or this is not the reference's machine.
        """
        known = {one.name: one for one in stretch.known}
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
    import numpy as np

    from starsearch.latency.padded import predict_deployed_layers
    from starsearch.latency.predicting import with_intervals

    layers = lower(architecture, resolution=resolution, num_classes=num_classes)
    predictions = []
    for name, profile in profiles.items():
        found = with_intervals(profile, np.array([predict_deployed_layers(profile, layers)]))
        predictions.append(
            Prediction(
                name=name,
                value=float(found.ms[0]),
                low=float(found.low_ms[0]),
                high=float(found.high_ms[0]),
                device=found.device,
            )
        )
    return tuple(predictions)

"""Latency predicted from a device profile: a sum over the layers, for one network or a million."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from starsearch.architecture import Architecture, Layer, format_architecture, lower
from starsearch.errors import EvaluationError
from starsearch.latency.population import Population
from starsearch.latency.profile import DeviceProfile, FloatVector, Predictions
from starsearch.latency.terms import NETWORK_FIXED, layer_terms


def predict_latency(
    profile: DeviceProfile, architectures: Sequence[Architecture], *, resolution: int, num_classes: int = 1000
) -> Predictions:
    """Latencies of the architectures as they are deployed, with 90 % prediction intervals.

    Args:
        profile: of the device.
        architectures: (n,).
        resolution: at which they are deployed, in pixels.
        num_classes: outputs of the head.

    Raises:
        EvaluationError: an architecture has a layer the profile has no term for; the text names both.
    """
    ms = [
        predict_layers(profile, lower(architecture, resolution=resolution, num_classes=num_classes))
        for architecture in architectures
    ]
    return with_intervals(profile, np.array(ms, dtype=float))


def predict_layers(profile: DeviceProfile, layers: Sequence[Layer]) -> float:
    """Milliseconds of one network, given as its lowering.

    Raises:
        EvaluationError: a layer the profile has no term for.
    """
    costs = layer_costs(profile, layers)
    return profile.coefficients_ms.get(NETWORK_FIXED, 0.0) + math.fsum(costs.values())


def layer_costs(profile: DeviceProfile, layers: Sequence[Layer]) -> dict[str, float]:
    """Milliseconds a layer, by its name; what a runtime fuses into its host may cost nothing.

    Raises:
        EvaluationError: a layer the profile has no term for.
    """
    described = layer_terms(layers, vector_width=profile.vector_width)
    check_covered(profile, Counter(d.kind for d in described if d.terms))
    return {d.layer: _cost(profile.coefficients_ms, d.terms) for d in described}


def check_covered(profile: DeviceProfile, layers: Mapping[str, int]) -> None:
    """Refuse a network with layers the profile has no term for.

    Args:
        profile: of the device.
        layers: of the network, how many a kind.

    Raises:
        EvaluationError: the text names the kinds, and how many of the layers are covered.
    """
    known = known_kinds(profile)
    unknown = sorted(kind for kind in layers if kind not in known)
    if unknown:
        total = sum(layers.values())
        missing = sum(layers[kind] for kind in unknown)
        raise EvaluationError(
            f"The profile {profile.name!r} has no term for {_in_words(unknown)}: it covers {total - missing} of the "
            f"network's {total} layers, and what it has not seen it does not guess. Calibrate it on a space that has "
            "such networks: starsearch latency fit --space SPACE.yaml."
        )


def covers(profile: DeviceProfile, layers: Sequence[Layer]) -> bool:
    """Whether the profile has terms for all of a lowering's layers."""
    described = layer_terms(layers, vector_width=profile.vector_width)
    return known_kinds(profile).issuperset(one.kind for one in described if one.terms)


def known_kinds(profile: DeviceProfile) -> frozenset[str]:
    """Kinds of layers the profile has terms for."""
    return frozenset(name.rsplit(".", 1)[0] for name in profile.coefficients_ms)


class Predictor:
    """Predicts populations: each stage's configurations are costed once and looked up from then on.

    Args:
        profile: of the device.
        resolution: at which networks are deployed, in pixels.
        num_classes: outputs of the head.
    """

    def __init__(self, profile: DeviceProfile, *, resolution: int = 224, num_classes: int = 1000) -> None:
        self._profile, self._resolution, self._num_classes = profile, resolution, num_classes
        self._stage_costs: dict[tuple[int, ...], tuple[float, float]] = {}
        self._end_costs: dict[tuple[int, ...], float] = {}

    def __call__(self, population: Population) -> Predictions:
        """Latencies of all networks of a population.

        Raises:
            EvaluationError: one has a layer the profile has no term for.
        """
        ms = np.zeros(len(population))
        for stage in range(population.num_stages):
            codes = population.stage_codes(stage)
            costs = np.array([self._cost_stage(population, stage, config) for config in codes.configurations])
            first, rest = costs[codes.index].T
            depth = population.depths[:, stage]
            ms += first + depth * rest
        ends = population.end_codes()
        ms += np.array([self._cost_ends(population, config) for config in ends.configurations])[ends.index]
        return with_intervals(self._profile, ms)

    def _cost_stage(self, population: Population, stage: int, config: tuple[int, ...]) -> tuple[float, float]:
        """Milliseconds of the stage's downsampling layer, and of one block."""
        key = (stage, *config)
        if key not in self._stage_costs:
            costs = self._costs(population.stage_example(stage, config))
            head, block = f"stages.{stage}.0", f"stages.{stage}.1."
            self._stage_costs[key] = (
                costs[head],
                math.fsum(cost for name, cost in costs.items() if name.startswith(block)),
            )
        return self._stage_costs[key]

    def _cost_ends(self, population: Population, config: tuple[int, ...]) -> float:
        """Milliseconds of what stands before and behind the stages."""
        if config not in self._end_costs:
            costs = self._costs(population.end_example(config))
            fixed = self._profile.coefficients_ms.get(NETWORK_FIXED, 0.0)
            outside = (cost for name, cost in costs.items() if not name.startswith("stages."))
            self._end_costs[config] = fixed + math.fsum(outside)
        return self._end_costs[config]

    def _costs(self, architecture: Architecture) -> dict[str, float]:
        layers = lower(architecture, resolution=self._resolution, num_classes=self._num_classes)
        try:
            return layer_costs(self._profile, layers)
        except EvaluationError as error:
            raise EvaluationError(f"{error} One such network: {format_architecture(architecture)}.") from None


def _cost(coefficients_ms: Mapping[str, float], terms: Mapping[str, float]) -> float:
    return math.fsum(coefficients_ms.get(name, 0.0) * value for name, value in terms.items())


def with_intervals(profile: DeviceProfile, ms: FloatVector) -> Predictions:
    """Predicted milliseconds with the profile's 90 % intervals."""
    low, high = np.exp(profile.interval_log)
    return Predictions(ms=ms, low_ms=ms * low, high_ms=ms * high, device=profile.device.text)


_KINDS_IN_WORDS = {
    "image": "{0}×{0} convolutions of an image",
    "depthwise": "{0}×{0} depthwise convolutions",
    "dense": "{0}×{0} convolutions",
    "unblocked": "{0}×{0} convolutions of channels that are no multiple of 4",
}


def _in_words(kinds: Sequence[str]) -> str:
    words = []
    for kind in kinds:
        stem = kind.rstrip("0123456789")
        size = kind.removeprefix(stem)
        words.append(_KINDS_IN_WORDS[stem].format(size) if stem in _KINDS_IN_WORDS else kind.replace("_", " "))
    return " and ".join(words)

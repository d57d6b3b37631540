"""Latency predicted from a device profile: a sum over the layers of the network as it is deployed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer, pad_channels
from starsearch.latency.padded import choose_padding_by_prediction
from starsearch.latency.profile import DeviceProfile, Predictions
from starsearch.latency.terms import NETWORK_FIXED, has_unblocked_channels, layer_terms, sort_of_work, sum_terms

# Profiles of what runs networks as they are exported; the other backends that measure (Core ML, a GPU, PyTorch) keep no
# blocked layout and are given networks as they are.
_PADDED_BACKENDS = ("onnxruntime-cpu", "imported")


def predict_latency(
    profile: DeviceProfile, architectures: Sequence[Architecture], *, resolution: int, num_classes: int = 1000
) -> Predictions:
    """Return the latencies of the networks as they are deployed, with 90 % prediction intervals.

    A network that leaves ONNX Runtime's blocked layout is padded to the profile's vector width where that is predicted
    to be faster. Where the profile has no term for the network as it is, but for all layers of the padded one, the
    padded one is all that can be predicted.

    Args:
        profile: of the device.
        architectures: (n,).
        resolution: at which they are deployed, in pixels.
        num_classes: outputs of the head.

    Raises:
        EvaluationError: the profile has no term for a layer of either; the text names the layers.
    """
    deployed = [
        _as_deployed(profile, lower(architecture, resolution=resolution, num_classes=num_classes))
        for architecture in architectures
    ]
    ms = np.array([predict_layers(profile, layers) for layers in deployed], dtype=float)
    low, high = np.exp(profile.interval_log)
    parts = tuple(_sorts_of_work(profile, layers) for layers in deployed)
    return Predictions(ms=ms, low_ms=ms * low, high_ms=ms * high, device=profile.device.text, parts=parts)


def _as_deployed(profile: DeviceProfile, layers: Sequence[Layer]) -> Sequence[Layer]:
    if profile.backend not in _PADDED_BACKENDS or not has_unblocked_channels(layers):
        return layers
    multiple = profile.vector_width
    padded = pad_channels(layers, multiple=multiple)
    if not covers(profile, padded):
        return layers
    if not covers(profile, layers):
        return padded
    choice = choose_padding_by_prediction(layers, multiple=multiple, predict_ms=partial(predict_layers, profile))
    return layers if choice.multiple is None else padded


def _sorts_of_work(profile: DeviceProfile, layers: Sequence[Layer]) -> dict[str, float]:
    """Milliseconds by sort of work; they add up to those of `predict_layers`."""
    described = sum_terms(layer_terms(layers, vector_width=profile.vector_width))
    found: defaultdict[str, float] = defaultdict(float)
    for term, value in described.total.items():
        found[sort_of_work(term)] += profile.coefficients_ms.get(term, 0.0) * value
    return dict(found)


def predict_layers(profile: DeviceProfile, layers: Sequence[Layer]) -> float:
    """Return the milliseconds of exactly these layers, given as a network's lowering.

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


def _cost(coefficients_ms: Mapping[str, float], terms: Mapping[str, float]) -> float:
    return math.fsum(coefficients_ms.get(name, 0.0) * value for name, value in terms.items())


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

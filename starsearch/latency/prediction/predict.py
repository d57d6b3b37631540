"""Latency predicted from a device profile: a sum over the layers of the network as it is deployed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer, pad_channels
from starsearch.latency.padded import is_unblocked
from starsearch.latency.prediction.profile import DeviceProfile
from starsearch.latency.prediction.terms import NETWORK_FIXED, NetworkTerms, layer_terms, sort_of_work
from starsearch.measurement import Prediction
from starsearch.objective import LATENCY
from starsearch.resolution import Resolution

# Profiles of what runs networks as they are exported; the other backends that measure (Core ML, a GPU, PyTorch) keep no
# blocked layout and are given networks as they are.
_PADDED_BACKENDS = ("onnxruntime-cpu", "imported")
# A predictor errs by 2 to 4 %, so that a smaller gain by padding may be none.
_LEAST_GAIN = 0.05


def predict_latency(
    profile: DeviceProfile,
    architecture: Architecture,
    *,
    resolution: Resolution,
    num_classes: int = 1000,
    name: str = LATENCY,
) -> Prediction:
    """Return the milliseconds of a network as it is deployed on the profile's device, with a 90 % interval.

    A network that leaves ONNX Runtime's blocked layout is padded to the profile's vector width where that is predicted
    to be faster. Where the profile has no term for the network as it is, but for all layers of the padded one, the
    padded one is all that can be predicted; where it has none for either, `EvaluationError` names the layers.
    """
    layers = lower(architecture, resolution=resolution, num_classes=num_classes)
    parts = predict_parts(profile, _as_deployed(profile, layers))
    ms = math.fsum(parts.values())
    low, high = (ms * math.exp(end) for end in profile.interval_log)
    return Prediction(name=name, value=ms, low=low, high=high, device=profile.device.text, parts=parts)


def predict_layers(profile: DeviceProfile, layers: Sequence[Layer]) -> float:
    """Return the milliseconds of exactly these layers of a lowering."""
    return math.fsum(predict_parts(profile, layers).values())


def predict_parts(profile: DeviceProfile, layers: Sequence[Layer]) -> dict[str, float]:
    """Return the milliseconds of exactly these layers by sort of work; refuse layers the profile has no term for."""
    described = NetworkTerms.of(layers, vector_width=profile.vector_width)
    unknown = sorted(set(described.layers) - known_kinds(profile))
    if unknown:
        total, missing = sum(described.layers.values()), sum(described.layers[kind] for kind in unknown)
        raise EvaluationError(
            f"The profile {profile.name!r} has no term for {' and '.join(map(_in_words, unknown))}: it covers "
            f"{total - missing} of the network's {total} layers, and what it has not seen it does not guess. Calibrate "
            "it on a space that has such networks: starsearch latency fit --space SPACE.yaml."
        )
    found: defaultdict[str, float] = defaultdict(float)
    for term, value in described.total.items():
        found[sort_of_work(term)] += profile.coefficients_ms.get(term, 0.0) * value
    return dict(found)


def predict_by_layer(
    profile: DeviceProfile, architecture: Architecture, *, resolution: Resolution, num_classes: int = 1000
) -> list[tuple[Layer, str, float]]:
    """Return each layer as it is deployed with its kind and milliseconds, without the network's own fixed cost."""
    layers = _as_deployed(profile, lower(architecture, resolution=resolution, num_classes=num_classes))
    cost = profile.coefficients_ms
    return [
        (layer, kind, math.fsum(cost.get(term, 0.0) * amount for term, amount in terms.items()))
        for layer, (kind, terms) in zip(layers, layer_terms(layers, vector_width=profile.vector_width), strict=True)
    ]


def known_kinds(profile: DeviceProfile) -> frozenset[str]:
    """Return the kinds of layers the profile has terms for."""
    return frozenset(name.rsplit(".", 1)[0] for name in profile.coefficients_ms if name != NETWORK_FIXED)


def _as_deployed(profile: DeviceProfile, layers: Sequence[Layer]) -> Sequence[Layer]:
    if profile.backend not in _PADDED_BACKENDS or not any(map(is_unblocked, layers)):
        return layers
    padded = pad_channels(layers, multiple=profile.vector_width)
    if not _covers(profile, padded):
        return layers
    if not _covers(profile, layers):
        return padded
    is_faster = predict_layers(profile, padded) < (1 - _LEAST_GAIN) * predict_layers(profile, layers)
    return padded if is_faster else layers


def _covers(profile: DeviceProfile, layers: Sequence[Layer]) -> bool:
    return known_kinds(profile).issuperset(NetworkTerms.of(layers, vector_width=profile.vector_width).layers)


def _in_words(kind: str) -> str:
    stem = kind.rstrip("0123456789")
    size = kind.removeprefix(stem)
    words = {
        "image": f"{size}×{size} convolutions of an image",
        "depthwise": f"{size}×{size} depthwise convolutions",
        "dense": f"{size}×{size} convolutions",
        "unblocked": f"{size}×{size} convolutions of channels that are no multiple of 4",
    }
    return words.get(stem, kind.replace("_", " "))

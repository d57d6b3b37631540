"""Whether a profile still holds: networks it has not seen, measured and compared with its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.fitting import CONFIDENCE, describe_errors
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.predict import predict_latency
from starsearch.latency.prediction.profile import DeviceProfile, HeldOut

# A profile that holds is called broken this seldom.
_SIGNIFICANCE = 0.01
_NORMAL_QUANTILE = 1.645  # of a two-sided 90 %
# Of all networks alike against the reference, which intervals do not show when they are wide.
_LARGEST_TILT = 0.05
# Of the machine as a whole: plain times wander by 5 to 7 % within minutes, more between days.
_LARGEST_BIAS = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNetwork:
    """A network measured as it is deployed, and what the profile predicts of it with 90 %."""

    architecture: str
    measured_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCheck:
    """A profile against fresh measurements.

    Attributes:
        profile: its name.
        holds: whether it may be used as it is: both of the next.
        balanced: whether the networks compare with each other as the profile says.
        in_scale: whether the machine as a whole is as fast as it says.
        inside: how many lie in their 90 % prediction intervals, the common factor and their own noise taken off.
        bias_percent: how much slower the machine is than the profile says, as a whole: median measured / predicted.
        errors: how far the predictions are off.
        reference_ms: the reference network's time here and now, where it is known.
        differences: how this machine differs from the profile's device, in words.
        notes: what a reader should know of how the networks were measured.
    """

    profile: str
    holds: bool
    balanced: bool
    in_scale: bool
    inside: int
    bias_percent: float
    errors: HeldOut
    networks: tuple[CheckedNetwork, ...]
    reference_ms: float | None = None
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare_with_profile(profile: DeviceProfile, samples: Sequence[Sample], *, scale: float = 1.0) -> ProfileCheck:
    """Compare measured networks with what the profile says of them.

    Two things are asked. Do networks compare with each other as predicted: not, when so many lie outside their 90 %
    intervals as a profile that holds would show once in a hundred times. Is the machine as fast as it was: not, when
    all are off by more than the 15 % that a plain clock wanders from day to day.

    Args:
        profile: the profile to check.
        samples: networks it has not seen, measured at its resolution as they are deployed.
        scale: the reference network's time now by its time in the profile, which the samples' times contain.
    """
    from scipy.stats import binom

    if not samples:
        raise EvaluationError("A profile is checked against measured networks; none could be measured.")
    architectures = [parse_architecture(sample.architecture) for sample in samples]
    predictions = predict_latency(profile, architectures, resolution=profile.resolution)
    measured = np.array([sample.ms for sample in samples])
    # Whether each lies in its interval, widened by the noise of its own measurement.
    noise = _NORMAL_QUANTILE * np.array([(sample.spread_ms or 0.0) / sample.ms for sample in samples])
    relative = measured / scale / predictions.ms
    above, below = np.log(predictions.high_ms / predictions.ms), np.log(predictions.ms / predictions.low_ms)
    is_inside = (np.log(relative) <= np.hypot(above, noise)) & (-np.log(relative) <= np.hypot(below, noise))
    outside = int((~is_inside).sum())
    bias = float(np.median(measured / predictions.ms) - 1)
    chance = float(binom.sf(outside - 1, len(samples), 1 - CONFIDENCE))
    balanced = bool(chance >= _SIGNIFICANCE and abs(np.median(relative) - 1) <= _LARGEST_TILT)
    in_scale = abs(bias) <= _LARGEST_BIAS
    rows = zip(samples, predictions.ms, predictions.low_ms, predictions.high_ms, strict=True)
    return ProfileCheck(
        profile=profile.name,
        holds=balanced and in_scale,
        balanced=balanced,
        in_scale=in_scale,
        inside=len(samples) - outside,
        bias_percent=100 * bias,
        errors=describe_errors(predictions.ms, measured, method="fresh networks"),
        networks=tuple(
            CheckedNetwork(
                architecture=sample.architecture,
                measured_ms=sample.ms,
                predicted_ms=float(ms),
                low_ms=float(low),
                high_ms=float(high),
            )
            for sample, ms, low, high in rows
        ),
    )

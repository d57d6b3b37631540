"""Whether a profile still holds: networks it has not seen, measured and compared with its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
class ProfileCheck:
    """A profile against fresh measurements."""

    profile: str  # its name
    holds: bool  # whether it may be used as it is: both of the next
    balanced: bool  # whether the networks compare with each other as the profile says
    in_scale: bool  # whether the machine as a whole is as fast as it says
    inside: int  # how many lie in their 90 % prediction intervals, the common factor and their own noise taken off
    bias_percent: float  # how much slower the machine is than the profile says, as a whole: median measured / predicted
    errors: HeldOut  # how far the predictions are off
    networks: tuple[Mapping[str, Any], ...]  # architecture, measured_ms, predicted_ms, low_ms and high_ms of each
    reference_ms: float | None = None  # the reference network's time here and now, where it is known
    differences: tuple[str, ...] = ()  # how this machine differs from the profile's device, in words
    notes: tuple[str, ...] = ()  # what a reader should know of how the networks were measured


def compare_with_profile(profile: DeviceProfile, samples: Sequence[Sample], *, scale: float = 1.0) -> ProfileCheck:
    """Compare networks, measured as they are deployed, with what the profile says of them.

    Two things are asked. Do networks compare with each other as predicted: not, when so many lie outside their 90 %
    intervals as a profile that holds would show once in a hundred times. Is the machine as fast as it was: not, when
    all are off by more than the 15 % that a plain clock wanders from day to day. `scale` is the reference network's
    time now by its time in the profile, which the samples' times contain.
    """
    from scipy.stats import binom

    if not samples:
        raise EvaluationError("A profile is checked against measured networks; none could be measured.")
    predictions = [
        predict_latency(profile, parse_architecture(sample.architecture), resolution=profile.resolution)
        for sample in samples
    ]
    predicted, low, high = np.array([(one.value, one.low, one.high) for one in predictions]).T
    measured = np.array([sample.ms for sample in samples])
    # Whether each lies in its interval, widened by the noise of its own measurement.
    noise = _NORMAL_QUANTILE * np.array([(sample.spread_ms or 0.0) / sample.ms for sample in samples])
    relative = measured / scale / predicted
    is_inside = np.log(relative) <= np.hypot(np.log(high / predicted), noise)
    is_inside &= -np.log(relative) <= np.hypot(np.log(predicted / low), noise)
    outside = int((~is_inside).sum())
    bias = float(np.median(measured / predicted) - 1)
    chance = float(binom.sf(outside - 1, len(samples), 1 - CONFIDENCE))
    balanced = bool(chance >= _SIGNIFICANCE and abs(np.median(relative) - 1) <= _LARGEST_TILT)
    in_scale = abs(bias) <= _LARGEST_BIAS
    return ProfileCheck(
        profile=profile.name,
        holds=balanced and in_scale,
        balanced=balanced,
        in_scale=in_scale,
        inside=len(samples) - outside,
        bias_percent=100 * bias,
        errors=describe_errors(predicted, measured, method="fresh networks"),
        networks=tuple(
            {
                "architecture": sample.architecture,
                "measured_ms": sample.ms,
                "predicted_ms": one.value,
                "low_ms": one.low,
                "high_ms": one.high,
            }
            for sample, one in zip(samples, predictions, strict=True)
        ),
    )

"""Whether a profile still holds: networks it has not seen, measured and compared with its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.accuracy import CONFIDENCE, describe_errors
from starsearch.latency.predicting import predict_latency
from starsearch.latency.profile import BoolVector, DeviceProfile, FloatVector, HeldOut, Predictions, Sample

# A profile that holds is called broken this seldom.
_SIGNIFICANCE = 0.01
_NORMAL_QUANTILE = 1.645  # of a two-sided 90 %
# Of all networks alike against the reference, which intervals do not show when they are wide.
_LARGEST_TILT = 0.05
# Of the machine as a whole: plain times wander by 5 to 7 % within minutes, more between days.
_LARGEST_BIAS = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCheck:
    """A profile against fresh measurements.

    Attributes:
        samples: what was measured, (n,).
        predictions: of these networks.
        inside: how many lie in their 90 % prediction intervals, the common factor and their own noise taken off.
        bias: median measured / predicted − 1: how much slower the machine is than the profile says, as a whole.
        errors: of the predictions.
        is_balanced: whether the networks compare with each other as the profile says.
        is_in_scale: whether the machine as a whole is as fast as it says.
    """

    samples: tuple[Sample, ...]
    predictions: Predictions
    inside: int
    bias: float
    errors: HeldOut
    is_balanced: bool
    is_in_scale: bool

    @property
    def holds(self) -> bool:
        """Whether the profile may be used as it is."""
        return self.is_balanced and self.is_in_scale


def compare_with_profile(profile: DeviceProfile, samples: Sequence[Sample], *, scale: float = 1.0) -> ProfileCheck:
    """Compare measured networks with what the profile says of them.

    Two things are asked. Do networks compare with each other as predicted: not, when so many lie outside their 90 %
    intervals as a profile that holds would show once in a hundred times. Is the machine as fast as it was: not, when
    all are off by more than the 15 % that a plain clock wanders from day to day.

    Args:
        profile: that is checked.
        samples: networks it has not seen, measured at its resolution.
        scale: the reference network's time now by its time in the profile, which the samples' times contain.

    Raises:
        EvaluationError: there are no samples, or a network has a layer the profile has no term for.
    """
    from scipy.stats import binom

    if not samples:
        raise EvaluationError("A profile is checked against measured networks; none could be measured.")

    architectures = [parse_architecture(sample.architecture) for sample in samples]
    predictions = predict_latency(profile, architectures, resolution=profile.resolution)
    measured = np.array([sample.ms for sample in samples])
    relative = measured / scale
    outside = int((~_is_inside(relative, predictions, samples)).sum())
    bias = float(np.median(measured / predictions.ms) - 1)
    chance = float(binom.sf(outside - 1, len(samples), 1 - CONFIDENCE))
    return ProfileCheck(
        samples=tuple(samples),
        predictions=predictions,
        inside=len(samples) - outside,
        bias=bias,
        errors=describe_errors(predictions.ms, measured, method="fresh networks"),
        is_balanced=bool(chance >= _SIGNIFICANCE and abs(np.median(relative / predictions.ms) - 1) <= _LARGEST_TILT),
        is_in_scale=abs(bias) <= _LARGEST_BIAS,
    )


def _is_inside(measured_ms: FloatVector, predictions: Predictions, samples: Sequence[Sample]) -> BoolVector:
    """Whether each lies in its interval, widened by the noise of its own measurement."""
    noise = _NORMAL_QUANTILE * np.array([(sample.spread_ms or 0.0) / sample.ms for sample in samples])
    off = np.log(measured_ms / predictions.ms)
    above, below = np.log(predictions.high_ms / predictions.ms), np.log(predictions.ms / predictions.low_ms)
    return (off <= np.hypot(above, noise)) & (-off <= np.hypot(below, noise))

"""What was measured after a trial had ended: attributes of the study, since a finished trial never changes.

One attribute for each network and quantity, "measured:NAME:ARCHITECTURE" (`latency_ms@phone`, the architecture's hash),
whose value is a `Measurement`. Wherever a study is looked at, it replaces what was predicted, and what the measurements
say of the predictions corrects the others: values on the front compare, and the search continues with the better ones.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.trial import Trial

PREFIX = "measured:"

_CONFIDENCE = 0.9
_NORMAL_QUANTILE = 1.645  # of a two-sided 90 %
_LEAST_FOR_FACTORS = 8  # measured networks, before sorts of work are told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What measured networks say of the predictions of one quantity.

    Attributes:
        factor: that predictions are multiplied by.
        factors: the same by sort of work, for predictions that know their parts; empty while too few are measured.
        widening: that the logarithms of their intervals' ends are multiplied by; at least 1.
    """

    factor: float
    factors: Mapping[str, float]
    widening: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[Prediction, float]]) -> Correction:
        """Return the correction that predictions with their measured values suggest.

        The level's prior is the profile's own error, so that one measurement moves it by half. With eight networks each
        sort of work has a factor, as where a profile is adapted to another device. Intervals are widened until they
        hold nine in ten of the measured values (split conformal prediction; all of fewer than nine).
        """
        logs = [math.log(value / one.value) for one, value in pairs]
        error = statistics.fmean(math.log(one.high / one.low) / 2 for one, _ in pairs) / _NORMAL_QUANTILE
        prior = max(error, 1e-6) ** 2
        mean, count = statistics.fmean(logs), len(logs)
        noise = (prior + sum((one - mean) ** 2 for one in logs)) / count
        level = mean * count * prior / (count * prior + noise)
        factors: Mapping[str, float] = {}
        if count >= _LEAST_FOR_FACTORS and all(one.parts for one, _ in pairs):
            from starsearch.latency.prediction.fitting import scale_parts

            factors, predicted = scale_parts([one.parts for one, _ in pairs], [value for _, value in pairs])
            missed = [math.log(value / ms) for (_, value), ms in zip(pairs, predicted, strict=True)]
        else:
            missed = [log - level for log in logs]
        # How many times the interval's half in that direction each lies off.
        off = sorted(
            miss / (math.log((one.high if miss > 0 else one.low) / one.value) or math.copysign(1e-6, miss))
            for (one, _), miss in zip(pairs, missed, strict=True)
        )
        rank = min(count, math.ceil(_CONFIDENCE * (count + 1)))
        return cls(factor=math.exp(level), factors=factors, widening=max(1.0, off[rank - 1]))

    def __call__(self, one: Prediction) -> Prediction:
        """Return the prediction corrected."""
        value = one.value * self.factor
        if self.factors and one.parts:
            value = math.fsum(self.factors.get(sort, self.factor) * ms for sort, ms in one.parts.items())
        low, high = (value * (end / one.value) ** self.widening for end in (one.low, one.high))
        return replace(one, value=value, low=low, high=high)


class Measured(dict[tuple[str, str], Measurement]):
    """Measurements by architecture's hash and name; `corrections` by name is what they say of other predictions."""

    corrections: Mapping[str, Correction] = MappingProxyType({})

    def corrected(self, readings: Iterable[Reading]) -> tuple[Reading, ...]:
        """Return the readings, the predictions among them corrected."""
        return tuple(
            self.corrections[one.name](one) if isinstance(one, Prediction) and one.name in self.corrections else one
            for one in readings
        )

    def latest(self, trial: Trial) -> Trial:
        """Return the trial with what was measured later, or corrected, in place of what was predicted in it."""
        network = trial.candidate.network
        later = {name: one for (of, name), one in self.items() if of == network}
        readings = (later.pop(one.name, one) if isinstance(one, Prediction) else one for one in trial.readings)
        latest = self.corrected(readings)
        taken = {one.name for one in latest}
        further = tuple(one for one in later.values() if one.name not in taken) if trial.has_result else ()
        return replace(trial, readings=(*latest, *further))


def measured_afterwards(attributes: Mapping[str, Any], trials: Iterable[Trial] = ()) -> Measured:
    """Return what was measured later by a study's attributes, and what it says of the predictions of `trials`."""
    found = Measured()
    for key, value in attributes.items():
        if key.startswith(PREFIX):
            name, _, architecture = key.removeprefix(PREFIX).rpartition(":")
            found[architecture, name] = Measurement(**value)
    pairs: dict[str, dict[str, tuple[Prediction, float]]] = {}
    for trial in trials if found else ():
        network = trial.candidate.network
        for reading in trial.readings if trial.state == "complete" else ():
            one = found.get((network, reading.name))
            if one and isinstance(reading, Prediction):
                pairs.setdefault(reading.name, {})[network] = reading, one.value
    found.corrections = {name: Correction.of(list(by_network.values())) for name, by_network in pairs.items()}
    return found

"""What was measured after a trial had ended: attributes of the study, since a finished trial never changes.

One attribute a network and quantity, "measured:NAME:ARCHITECTURE" (`latency_ms@phone`, the architecture's hash), whose
value is a `Measurement`. Wherever a study is looked at, it stands in for what was predicted, and what the measurements
say of the predictions corrects the others: values on the front compare, and the search goes on with the better ones.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starsearch.families.text import architecture_hash
from starsearch.measurement import Measurement, Prediction, Reading, prediction_error_percent
from starsearch.records.attributes import PREDICTED, measurement_attributes, reading_attributes, recorded_reading
from starsearch.trial import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.records.open_study import OpenStudy

_PREFIX = "measured:"

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
        network = architecture_hash(trial.candidate.architecture)
        later = {name: one for (of, name), one in self.items() if of == network}
        readings = (later.pop(one.name, one) if isinstance(one, Prediction) else one for one in trial.readings)
        latest = self.corrected(readings)
        taken = {one.name for one in latest}
        further = tuple(one for one in later.values() if one.name not in taken) if trial.has_result else ()
        return replace(trial, readings=(*latest, *further))


def keep_measured(study: OpenStudy, architecture: str, measurement: Measurement) -> None:
    """Write what was measured of the architecture of this hash, in place of what was there of the same name."""
    study.set_attribute(f"{_PREFIX}{measurement.name}:{architecture}", asdict(measurement))


def measured_afterwards(attributes: Mapping[str, Any], trials: Iterable[FrozenTrial] = ()) -> Measured:
    """What `keep_measured` has written among a study's attributes, and what it says of the predictions of `trials`."""
    found = Measured()
    for key, value in attributes.items():
        if key.startswith(_PREFIX):
            name, _, architecture = key.removeprefix(_PREFIX).rpartition(":")
            found[architecture, name] = Measurement(**value)
    pairs: dict[str, dict[str, tuple[Prediction, float]]] = {}
    for trial in trials:
        said = trial.user_attrs
        for name in said.get("measurements", ()):
            network, prediction = said.get("architecture", ""), recorded_reading(said, name)
            one = found.get((network, name))
            if one and isinstance(prediction, Prediction) and trial.state.name == "COMPLETE":
                pairs.setdefault(name, {})[network] = prediction, one.value
    found.corrections = {name: Correction.of(list(by_network.values())) for name, by_network in pairs.items()}
    return found


def merge_measured(attributes: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """A complete trial's attributes with what was measured of its architecture afterwards.

    Of what was predicted, NAME is the measured value where there is one, else the corrected prediction; NAME_kind says
    which it is ("measured" or "predicted"). NAME_predicted keeps what was predicted in the trial, and
    NAME_error_percent is how far it lies above the measured value. NAME_low and NAME_high are the interval of the
    corrected prediction; of a measured network that of the trial. What the trial measured itself stays.
    """
    merged = dict(attributes)
    names = list(attributes.get("measurements", ()))
    later = dict(measured_of(attributes, measured))
    for name in names:
        if is_predicted(attributes, name):
            if name not in later:
                merged |= reading_attributes(measured.corrected([recorded_reading(attributes, name)]))
            merged[f"{name}_predicted"] = attributes[name]
    for name, one in later.items():
        if name in names:
            merged[f"{name}_error_percent"] = prediction_error_percent(attributes[name], one.value)
        merged |= {f"{name}_kind": "measured", **measurement_attributes(one)}
    merged["measurements"] = list(dict.fromkeys([*names, *later]))
    return merged


def latest_readings(attributes: Mapping[str, Any], measured: Measured) -> tuple[Reading, ...]:
    """A complete trial's readings, what was measured afterwards, or corrected, in place of what was predicted."""
    merged = merge_measured(attributes, measured)
    return tuple(recorded_reading(merged, name) for name in merged["measurements"])


def merge_violations(
    violations: Mapping[str, float], attributes: Mapping[str, Any], measured: Measured
) -> dict[str, float]:
    """By how much each constraint ("NAME.min", "NAME.max") is broken by the measured or the corrected values.

    A bound is a difference, so it moves by as much as the value does.
    """
    moved = dict(violations)
    for one in latest_readings(attributes, measured):
        for bound, sign in ((f"{one.name}.max", 1), (f"{one.name}.min", -1)):
            if bound in moved and one.name in attributes:
                moved[bound] += sign * (one.value - attributes[one.name])
    return moved


def measured_of(attributes: Mapping[str, Any], measured: Measured) -> Iterable[tuple[str, Measurement]]:
    """The measurements that stand in for a prediction of this trial, or for nothing, with their names."""
    architecture, names = attributes.get("architecture"), attributes.get("measurements", ())
    return [
        (name, one)
        for (of, name), one in measured.items()
        if of == architecture and (name not in names or is_predicted(attributes, name))
    ]


def is_predicted(attributes: Mapping[str, Any], name: str) -> bool:
    """Whether the trial of these attributes has predicted `name`."""
    return bool(attributes.get(f"{name}_kind") == PREDICTED)

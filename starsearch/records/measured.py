"""What was measured after a trial had ended: attributes of the study, since a finished trial never changes.

One attribute a network and quantity, "measured:NAME:ARCHITECTURE" (`latency_ms@phone`, the architecture's hash), whose
value is a `Measurement`. Wherever a study is looked at, it stands in for what was predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starsearch.measurement import Measurement, Reading, prediction_error_percent
from starsearch.records.attributes import PREDICTED, measurement_attributes, recorded_reading

if TYPE_CHECKING:
    from starsearch.records.open_study import OpenStudy

_PREFIX = "measured:"

Measured = Mapping[tuple[str, str], Measurement]
"""Measurements by architecture's hash and name."""


def keep_measured(study: OpenStudy, architecture: str, measurement: Measurement) -> None:
    """Write what was measured of the architecture of this hash, in place of what was there of the same name."""
    study.set_attribute(f"{_PREFIX}{measurement.name}:{architecture}", asdict(measurement))


def measured_afterwards(attributes: Mapping[str, Any]) -> dict[tuple[str, str], Measurement]:
    """What `keep_measured` has written among a study's attributes, by architecture's hash and name."""
    found = {}
    for key, value in attributes.items():
        if key.startswith(_PREFIX):
            name, _, architecture = key.removeprefix(_PREFIX).rpartition(":")
            found[architecture, name] = Measurement(**value)
    return found


def merge_measured(attributes: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """A complete trial's attributes with what was measured of its architecture afterwards.

    Of what was predicted, NAME is the measured value where there is one, NAME_kind says which it is ("measured" or
    "predicted"), NAME_predicted keeps the prediction (NAME_low and NAME_high are its interval), and
    NAME_error_percent is how far it lies above the measured value. What the trial measured itself stays.
    """
    merged = dict(attributes)
    names = list(attributes.get("measurements", ()))
    for name in names:
        if is_predicted(attributes, name):
            merged[f"{name}_predicted"] = attributes[name]
    for name, one in measured_of(attributes, measured):
        if name in names:
            merged[f"{name}_error_percent"] = prediction_error_percent(attributes[name], one.value)
        merged |= {f"{name}_kind": "measured", **measurement_attributes(one)}
    merged["measurements"] = list(dict.fromkeys([*names, *(name for name, _ in measured_of(attributes, measured))]))
    return merged


def latest_readings(attributes: Mapping[str, Any], measured: Measured) -> tuple[Reading, ...]:
    """A complete trial's readings, what was measured afterwards in place of what was predicted."""
    merged = merge_measured(attributes, measured)
    return tuple(recorded_reading(merged, name) for name in merged["measurements"])


def merge_violations(
    violations: Mapping[str, float], attributes: Mapping[str, Any], measured: Measured
) -> dict[str, float]:
    """By how much each constraint ("NAME.min", "NAME.max") is broken by the measured values, where there are such.

    A bound is a difference, so it moves by as much as the value does.
    """
    moved = dict(violations)
    for name, one in measured_of(attributes, measured):
        for bound, sign in ((f"{name}.max", 1), (f"{name}.min", -1)):
            if bound in moved and name in attributes:
                moved[bound] += sign * (one.value - attributes[name])
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

"""Latency of a network on a device: measured alone, in pairs with a reference network."""

from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.imported import read_samples
from starsearch.latency.lock import computing, measuring
from starsearch.latency.measure import Measured, MeasureSpec, measure
from starsearch.latency.paired import DEFAULT_LIMITS, Paired, PairLimits, measure_paired
from starsearch.latency.reference import Reference, calibrate_reference

__all__ = [
    "DEFAULT_LIMITS",
    "Device",
    "MeasureSpec",
    "Measured",
    "PairLimits",
    "Paired",
    "Reference",
    "calibrate_reference",
    "computing",
    "device_fingerprint",
    "measure",
    "measure_paired",
    "measuring",
    "read_samples",
]

"""`DeviceProfile`: a device's latency calibration, as it lies in a file one can read and share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from starsearch.latency.device import Device
from starsearch.latency.reference import Reference

FloatVector = NDArray[np.float64]
IndexVector = NDArray[np.intp]
BoolVector = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One network's latency on the device: what a profile is fitted to.

    It is of the very layers that the architecture names; what is deployed may have padded channels.

    Attributes:
        architecture: one-line text.
        ms: measured.
        pairs: with the reference network; 0 where it was not measured in pairs (an imported figure).
        spread_ms: standard error of `ms`; None where it is not known.
        shares: of the network's time by kind of layer, where the runtime's profiler told; they add up to 1.
    """

    architecture: str
    ms: float
    pairs: int = 0
    spread_ms: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How well networks that the fit had not seen are predicted.

    Attributes:
        method: how they were held out ("10-fold", "leave-one-out", "fresh networks").
        networks: how many.
        mape_percent: mean absolute relative error.
        within_5_percent: share of networks predicted within ±5 %, in percent.
        within_10_percent: the same, ±10 %.
        spearman: rank correlation of predicted and measured.
    """

    method: str
    networks: int
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    spearman: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A device, the scale of its latencies, and what its layers cost.

    Attributes:
        name: short, of the file.
        device: what was measured.
        backend: of `starsearch.latency.backends`, or "imported" for figures measured elsewhere.
        date: of the calibration, ISO 8601.
        resolution: of the networks it was fitted to, in pixels.
        reference: the reference network's time there, the scale of paired measurements; None where the figures
            were not measured in pairs.
        vector_width: channels a vector instruction takes; layers are costed with channels rounded up to it.
        coefficients_ms: by term, milliseconds a unit of the term (`starsearch.latency.terms`).
        interval_log: of a 90 % prediction interval, the natural logarithm of measured / predicted at either end.
        held_out: the error on networks the fit had not seen.
        samples: what it was fitted to.
        note: a caveat to be shown with every use; empty for none.
    """

    name: str
    device: Device
    backend: str
    date: str
    resolution: int
    reference: Reference | None
    vector_width: int
    coefficients_ms: Mapping[str, float]
    interval_log: tuple[float, float]
    held_out: HeldOut
    samples: tuple[Sample, ...] = field(repr=False)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predicted latencies of networks; never to be taken for measured ones.

    Attributes:
        ms: (n,).
        low_ms, high_ms: (n,), ends of the 90 % prediction intervals.
        device: of the profile, in words.
        parts: (n,), milliseconds by sort of work.
    """

    ms: FloatVector
    low_ms: FloatVector
    high_ms: FloatVector
    device: str
    parts: tuple[Mapping[str, float], ...]

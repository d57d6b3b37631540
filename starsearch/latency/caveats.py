"""What a reader of a measured latency should know about how it was measured, in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from starsearch.latency.device import Device
from starsearch.latency.paired import Paired, PairLimits

# A plain median drifts by 5–7 % within minutes on a quiet machine; ratios do not mind. What is told lies well beyond.
_DRIFT = 0.15
_OFF_SCALE = 0.25
_OUTLIERS = 0.1
_LEAST_READINGS = 9  # three in each third


def find_caveats(paired: Paired, *, limits: PairLimits, reference_ms: float, device: Device) -> tuple[str, ...]:
    """What went otherwise than it should, a sentence or two each with what to do; empty where nothing did.

    Args:
        paired: the measurement.
        limits: that it was held to.
        reference_ms: the reference network's calibrated time.
        device: that was measured on.
    """
    found = (
        _too_wide(paired, limits),
        _outliers(paired),
        _drift(paired.reference_ms),
        _off_scale(paired.reference_ms, reference_ms),
        _too_many_threads(device),
    )
    return tuple(caveat for caveat in found if caveat is not None)


def reference_drift(reference_ms: Sequence[float]) -> float:
    """How much slower the reference ran in the last third of its readings than in the first; 0.2 for 20 %.

    Negative where it became faster; 0 for fewer than 9 readings, which say too little.
    """
    if len(reference_ms) < _LEAST_READINGS:
        return 0.0
    third = len(reference_ms) // 3
    return statistics.median(reference_ms[-third:]) / statistics.median(reference_ms[:third]) - 1


def _too_wide(paired: Paired, limits: PairLimits) -> str | None:
    if paired.is_closed or limits.half_width == 0:  # nothing narrower than nothing: so many pairs were asked for
        return None
    half_width = (paired.interval.high - paired.interval.low) / (2 * paired.ratio)
    return (
        f"The 95 % interval is ±{100 * half_width:.1f} % after {paired.pairs} pairs, wider than the "
        f"±{100 * limits.half_width:.1f} % that was wanted: the machine is busy, or the network very small. End what "
        "else computes, or allow more pairs."
    )


def _outliers(paired: Paired) -> str | None:
    if paired.outliers <= _OUTLIERS * paired.pairs:
        return None
    return (
        f"{paired.outliers} of {paired.pairs} pairs lie far from the median: something else ran in between. The median "
        "hardly follows them; measure again on a quieter machine if it matters."
    )


def _drift(reference_ms: Sequence[float]) -> str | None:
    drift = reference_drift(reference_ms)
    if abs(drift) <= _DRIFT:
        return None
    if drift < 0:
        return (
            f"The machine became {-100 * drift:.0f} % faster while it was measured: it was busy, or its clock low, in "
            "the beginning. The ratio to the reference follows little of that; measure again if it matters."
        )
    return (
        f"The machine became {100 * drift:.0f} % slower while it was measured: it throttles (heat, battery), or "
        "another program began. The ratio to the reference follows little of that; let it cool down if it matters."
    )


def _off_scale(reference_ms: Sequence[float], calibrated_ms: float) -> str | None:
    now_ms = statistics.median(reference_ms)
    if abs(now_ms / calibrated_ms - 1) <= _OFF_SCALE:
        return None
    why = "throttled, on battery or busy now" if now_ms > calibrated_ms else "throttled or busy when it was calibrated"
    return (
        f"The reference network takes {now_ms:.3g} ms now, {calibrated_ms:.3g} ms when the scale was calibrated: the "
        f"machine is {why}. The latency is on the calibrated scale; calibrate again if that state has passed."
    )


def _too_many_threads(device: Device) -> str | None:
    if device.threads is None or device.cores is None or device.threads <= device.cores:
        return None
    return f"{device.threads} threads share the {device.cores} cores that this process may use; use no more than these."

"""What a reader of a measured latency should know about how it was measured, in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from starsearch.latency.device import Device
from starsearch.latency.paired import PairedTiming, PairLimits

# A plain median drifts by 5–7 % within minutes on a quiet machine; ratios do not mind. What is reported lies well
# beyond.
_DRIFT = 0.15
_OFF_SCALE = 0.25
_OUTLIERS = 0.1
_LEAST_READINGS = 9  # three in each third


def find_caveats(paired: PairedTiming, *, limits: PairLimits, calibrated_ms: float, device: Device) -> tuple[str, ...]:
    """Return what disturbed a measurement, a sentence or two each with what to do; empty where nothing did.

    `calibrated_ms` is the reference network's time when the scale was calibrated.
    """
    found = []
    half_width = (paired.interval.high - paired.interval.low) / (2 * paired.ratio)
    if not paired.is_closed and limits.half_width > 0:  # who asks for a number of pairs (a width of 0) gets that
        found.append(
            f"The 95 % interval is ±{100 * half_width:.1f} % after {paired.pairs} pairs, wider than the "
            f"±{100 * limits.half_width:.1f} % that was wanted: the machine is busy, or the network very small. Stop "
            "other programs that compute, or allow more pairs."
        )
    if paired.outliers > _OUTLIERS * paired.pairs:
        found.append(
            f"{paired.outliers} of {paired.pairs} pairs lie far from the median: something else ran in between. The "
            "median hardly follows them; measure again on a quieter machine if it matters."
        )
    drift = _reference_drift(paired.reference_ms)
    if drift < -_DRIFT:
        found.append(
            f"The machine became {-100 * drift:.0f} % faster while it was measured: it was busy, or its clock low, in "
            "the beginning. The ratio to the reference follows little of that; measure again if it matters."
        )
    if drift > _DRIFT:
        found.append(
            f"The machine became {100 * drift:.0f} % slower while it was measured: it throttles (heat, battery), or "
            "another program began. The ratio to the reference follows little of that; let it cool down if it matters."
        )
    now_ms = statistics.median(paired.reference_ms)
    if abs(now_ms / calibrated_ms - 1) > _OFF_SCALE:
        is_slow = now_ms > calibrated_ms
        why = "throttled, on battery or busy now" if is_slow else "throttled or busy when it was calibrated"
        found.append(
            f"The reference network takes {now_ms:.3g} ms now, {calibrated_ms:.3g} ms when the scale was calibrated: "
            f"the machine is {why}. The latency is on the calibrated scale; calibrate again if that state has passed."
        )
    if device.threads is not None and device.cores is not None and device.threads > device.cores:
        found.append(
            f"{device.threads} threads share the {device.cores} cores that this process may use; use no more than "
            "these."
        )
    return tuple(found)


def _reference_drift(reference_ms: Sequence[float]) -> float:
    """Return how much slower the reference ran in the last third of its readings than in the first; 0.2 for 20 %.

    Fewer than 9 readings say too little: 0.
    """
    if len(reference_ms) < _LEAST_READINGS:
        return 0.0
    third = len(reference_ms) // 3
    return statistics.median(reference_ms[-third:]) / statistics.median(reference_ms[:third]) - 1

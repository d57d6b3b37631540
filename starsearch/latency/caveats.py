"""What a reader of a measured latency should know about how it was measured, in words."""

from __future__ import annotations

import statistics

from starsearch.latency.device import Device
from starsearch.latency.paired import PairedTiming, PairLimits

# A plain median drifts by 5–7 % within minutes on a quiet machine; ratios do not mind. What is reported lies well
# beyond.
_DRIFT = 0.15
_OFF_SCALE = 0.25
_OUTLIERS = 0.1
_LEAST_READINGS = 3  # of the reference in each third of the time; fewer say too little


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
    third = len(paired.reference_ms) // 3
    if third >= _LEAST_READINGS:
        begin_ms, end_ms = (
            statistics.median(part) for part in (paired.reference_ms[:third], paired.reference_ms[-third:])
        )
        drift = end_ms / begin_ms - 1
        became, why, advice = "slower", "it throttles (heat, battery), or another program began", "let it cool down"
        if drift < 0:
            became, why, advice = "faster", "it was busy, or its clock low, in the beginning", "measure again"
        if abs(drift) > _DRIFT:
            found.append(
                f"The machine became {100 * abs(drift):.0f} % {became} while it was measured: {why}. The ratio to the "
                f"reference follows little of that; {advice} if it matters."
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

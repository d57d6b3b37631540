import dataclasses

import numpy as np
import pytest

from starsearch.latency.caveats import find_caveats, reference_drift
from starsearch.latency.device import Device
from starsearch.latency.paired import Paired, PairLimits
from starsearch.latency.statistics import Interval

DEVICE = Device(
    processor="AMD EPYC 9R14", cores=2, threads=1, runtime="r", optimization="all", governor=None, system="Linux"
)
QUIET = Paired(
    ratio=0.5,
    spread=0.002,
    interval=Interval(low=0.497, high=0.503, coverage=0.95),
    pairs=60,
    outliers=3,
    is_closed=True,
    reference_ms=tuple(np.random.default_rng(0).normal(10, 0.3, 60)),
)
WIDE = {"interval": Interval(low=0.45, high=0.55, coverage=0.95), "is_closed": False}
LIMITS = PairLimits()


def caveats(*, limits=LIMITS, device=DEVICE, calibrated_ms=10.0, **changes):
    paired = dataclasses.replace(QUIET, **changes)
    return find_caveats(paired, limits=limits, reference_ms=calibrated_ms, device=device)


def test_a_quiet_machine_leaves_nothing_to_say():
    assert caveats() == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (WIDE, ["±10.0 % after 60 pairs", "±1.0 % that was wanted", "allow more pairs"]),
        ({"outliers": 9}, ["9 of 60 pairs"]),
        ({"reference_ms": (10.0,) * 20 + (11.0,) * 20 + (12.5,) * 20}, ["25 % slower", "throttles"]),
        ({"reference_ms": (12.0,) * 20 + (11.0,) * 20 + (9.0,) * 20}, ["25 % faster"]),
    ],
    ids=["wide", "outliers", "slower", "faster"],
)
def test_what_went_wrong_is_said_once_in_numbers(changes, words):
    (caveat,) = caveats(**changes)
    for word in words:
        assert word in caveat


def test_a_machine_off_its_calibrated_scale_is_said_in_either_direction():
    (slow,) = caveats(calibrated_ms=6.0)
    assert "6 ms when the scale was calibrated" in slow
    assert "throttled, on battery or busy now" in slow
    (fast,) = caveats(calibrated_ms=20.0)
    assert "busy when it was calibrated" in fast


def test_more_threads_than_cores_is_said():
    (caveat,) = caveats(device=dataclasses.replace(DEVICE, threads=8))
    assert "8 threads share the 2 cores" in caveat
    assert caveats(device=dataclasses.replace(DEVICE, threads=None, cores=None)) == ()


def test_who_asks_for_a_number_of_pairs_is_not_told_that_they_did_not_suffice():
    assert caveats(limits=PairLimits(half_width=0.0), **WIDE) == ()


def test_drift_needs_enough_readings_and_does_not_follow_single_ones():
    assert reference_drift([1.0, 2.0, 3.0]) == 0
    spikes = [10.0] * 60
    spikes[50] = spikes[55] = 500.0
    assert reference_drift(spikes) == 0
    assert reference_drift(list(np.linspace(10, 12, 61))) == pytest.approx(0.13, abs=0.01)

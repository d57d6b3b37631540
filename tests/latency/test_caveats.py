import dataclasses

import numpy as np
import pytest

from starsearch.latency.device import Device
from starsearch.latency.measure import find_caveats
from starsearch.latency.paired import PairedTiming, PairLimits
from starsearch.latency.statistics import Interval

DEVICE = Device(processor="AMD EPYC 9R14", cores=2, threads=1, runtime="r", optimization="all")
QUIET = PairedTiming(
    ratio=0.5,
    spread=0.002,
    interval=Interval(low=0.497, high=0.503, coverage=0.95),
    pairs=60,
    outliers=3,
    is_closed=True,
    reference_ms=tuple(np.random.default_rng(0).normal(10, 0.3, 60)),
)
WIDE = {"interval": Interval(low=0.45, high=0.55, coverage=0.95), "is_closed": False}


def caveats(*, half_width=0.01, threads=1, calibrated_ms=10.0, **changes):
    return find_caveats(
        dataclasses.replace(QUIET, **changes),
        limits=PairLimits(half_width=half_width),
        calibrated_ms=calibrated_ms,
        device=dataclasses.replace(DEVICE, threads=threads),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"threads": None},
        {"half_width": 0.0, **WIDE},  # who asks for a number of pairs gets that
        {"reference_ms": (10.0,) * 50 + (500.0,) + (10.0,) * 9},
        {"reference_ms": (10.0, 10.0, 12.0)},  # too few to say
    ],
    ids=["quiet", "gpu", "as asked", "a spike", "few"],
)
def test_a_quiet_machine_leaves_nothing_to_say(changes):
    assert caveats(**changes) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (WIDE, ["±10.0 % after 60 pairs", "±1.0 % that was wanted", "allow more pairs"]),
        ({"outliers": 9}, ["9 of 60 pairs"]),
        ({"reference_ms": (10.0,) * 20 + (11.0,) * 20 + (12.5,) * 20}, ["25 % slower", "throttles"]),
        ({"reference_ms": (12.0,) * 20 + (11.0,) * 20 + (9.0,) * 20}, ["25 % faster"]),
        ({"calibrated_ms": 6.0}, ["6 ms when the scale was calibrated", "throttled, on battery or busy now"]),
        ({"calibrated_ms": 20.0}, ["busy when it was calibrated"]),
        ({"threads": 8}, ["8 threads share the 2 cores"]),
    ],
    ids=["wide", "outliers", "slower", "faster", "slow scale", "fast scale", "threads"],
)
def test_what_went_wrong_is_said_once_in_numbers(changes, words):
    (caveat,) = caveats(**changes)
    for word in words:
        assert word in caveat

import contextlib
import os

import numpy as np
import pytest

from starsearch.latency.paired import Copies, PairLimits, measure_paired, take_readings

from .generators import run

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system keeps no thread on a core")


class Watched:
    """A timer that notes which cores its thread may use while it runs."""

    def __init__(self, *, computes_in_caller):
        self.computes_in_caller = computes_in_caller
        self.allowed = []

    def __call__(self):
        self.allowed.append(os.sched_getaffinity(0))
        return 1.0


def measure(candidate, reference):
    limits = PairLimits(min_pairs=2, max_pairs=2)
    rng = np.random.default_rng(0)
    run(measure_paired(candidate, reference, rng=rng, limits=limits, alone=contextlib.nullcontext))


def test_what_computes_in_the_calling_thread_stays_on_one_core_and_is_free_again_afterwards():
    before = os.sched_getaffinity(0)
    timers = Watched(computes_in_caller=True), Watched(computes_in_caller=True)
    measure(Copies(lambda: timers[0], 2), timers[1])
    take_readings(timers[0], runs=3, alone=contextlib.nullcontext)
    assert all(len(cores) == 1 for timer in timers for cores in timer.allowed)
    assert os.sched_getaffinity(0) == before


def test_a_failing_run_sets_the_thread_free_as_well():
    before = os.sched_getaffinity(0)

    def fail():
        raise ZeroDivisionError

    fail.computes_in_caller = True
    with pytest.raises(ZeroDivisionError):
        take_readings(fail, runs=3, alone=contextlib.nullcontext)
    assert os.sched_getaffinity(0) == before


def test_where_either_network_uses_further_threads_none_is_kept_on_a_core():
    before = os.sched_getaffinity(0)
    timers = Watched(computes_in_caller=True), Watched(computes_in_caller=False)
    measure(*timers)
    assert all(cores == before for timer in timers for cores in timer.allowed)

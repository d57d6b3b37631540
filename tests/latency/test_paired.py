import contextlib
import os

import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.latency import paired as protocol
from starsearch.latency.paired import Copies, PairLimits, measure_paired, take_readings

from .generators import run


class Machine:
    """A clock for two networks on a machine whose speed wanders, with noise on every run."""

    def __init__(self, seed=0, *, ratio=1.0, noise=0.0, drift=0.0):
        self.rng = np.random.default_rng(seed)
        self.ratio, self.noise, self.drift, self.slowness = ratio, noise, drift, 1.0
        self.calls = []

    def _time(self, name, milliseconds):
        self.calls.append(name)
        self.slowness *= np.exp(self.drift * self.rng.normal())
        return milliseconds * self.slowness * np.exp(self.noise * self.rng.normal())

    def candidate(self):
        return self._time("candidate", 10 * self.ratio)

    def reference(self):
        return self._time("reference", 10)


def pair(candidate, reference, limits=None, seed=0):
    return run(measure_paired(candidate, reference, rng=np.random.default_rng(seed), limits=limits or PairLimits()))


def measure(machine, limits=None, seed=0):
    return pair(machine.candidate, machine.reference, limits, seed)


def test_the_ratio_is_found_on_a_machine_that_slows_down_severalfold():
    _, paired = measure(Machine(ratio=0.7, noise=0.02, drift=0.05))
    assert paired.ratio == pytest.approx(0.7, rel=0.05)
    assert paired.interval.low < 0.7 < paired.interval.high


def test_the_interval_holds_the_ratio_although_its_width_decides_when_to_stop():
    results = [measure(Machine(seed, ratio=1.5, noise=0.02), seed=seed)[1] for seed in range(300)]
    assert {result.pairs for result in results} > {20, 30, 40}  # the rule does stop at different numbers
    held = np.mean([result.interval.low <= 1.5 <= result.interval.high for result in results])
    assert held >= 0.92
    errors = np.array([result.ratio / 1.5 - 1 for result in results])
    assert np.mean([result.spread for result in results]) / 1.5 == pytest.approx(errors.std(), rel=0.25)


def test_a_steady_machine_needs_the_fewest_pairs_and_a_wild_one_the_most():
    limits = PairLimits(min_pairs=24, max_pairs=55)
    steady, wild = (measure(Machine(noise=noise), limits)[1] for noise in (0, 0.5))
    assert measure(Machine(noise=0.02), PairLimits(half_width=0.0))[1].pairs == 60
    assert (steady.pairs, wild.pairs) == (25, 55)  # whole stretches of five
    assert (steady.is_closed, wild.is_closed) == (True, False)
    assert steady.reference_ms == pytest.approx([10.0] * 25)
    assert len(set(wild.reference_ms)) == 55


def test_every_stretch_is_warmed_up_and_each_pair_is_one_network_around_the_other_in_random_order():
    machine = Machine()
    measure(machine, PairLimits(min_pairs=10, max_pairs=10))
    first, second = machine.calls[6:26], machine.calls[28:48]
    assert len(machine.calls) == 48
    pairs = [tuple(calls[i : i + 4]) for calls in (first, second) for i in range(0, 20, 4)]
    assert {pair[0] == pair[3] != pair[1] == pair[2] for pair in pairs} == {True}
    assert 2 <= sum(pair[0] == "candidate" for pair in pairs) <= 8


@pytest.mark.parametrize("runs", [2, 6])
def test_a_steady_drift_within_a_pair_leaves_the_ratio_alone(runs):
    machine = Machine(ratio=2.0)
    machine.rng = type("Steady", (), {"normal": staticmethod(lambda: 1.0)})()
    machine.drift = 0.01  # each run a hundredth slower than the one before
    _, paired = measure(machine, PairLimits(runs=runs))
    assert paired.ratio == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize(
    ("pairs", "number", "runs"),
    # Stretches of five pairs. Warm-up: three runs when new, one later.
    [(20, 3, [3 + 10 + 1 + 10, 3 + 10, 3 + 10]), (10, 4, [3 + 10, 3 + 10])],
)
def test_copies_of_a_network_take_turns_and_are_made_when_their_turn_comes(pairs, number, runs):
    made = []

    def make():
        made.append([])
        return lambda mine=made[-1]: mine.append(1) or 10.0

    copies = Copies(make, number)
    assert len(made) == 1, "one at once, so that a network that cannot run is reported before anything is timed"
    pair(copies, Machine().reference, PairLimits(min_pairs=pairs, max_pairs=pairs))
    assert [len(copy) for copy in made] == runs


def test_progress_is_reported_after_each_stretch_and_ends_whole():
    progress, paired = measure(Machine(noise=0.05))
    assert [p.values["pairs"] for p in progress] == list(range(5, paired.pairs + 1, 5))
    fractions = [p.fraction for p in progress]
    assert fractions == sorted(fractions)
    assert all(0 < fraction < 1 for fraction in fractions[:-1])
    assert progress[-1].fraction == 1


@pytest.mark.parametrize(
    "values",
    [{"min_pairs": 1}, {"min_pairs": 50, "max_pairs": 40}, {"half_width": float("nan")}, {"runs": 0}, {"runs": 3}],
)
def test_limits_that_cannot_be_met_are_refused(values):
    with pytest.raises(ValueError, match=r"at least|≤"):
        PairLimits(**values)


@pytest.mark.parametrize("reading", [0.0, float("nan"), float("inf")])
def test_a_clock_that_stands_still_fails_the_candidate_in_words(reading):
    for candidate, reference in ((lambda: reading, lambda: 1.0), (lambda: 1.0, lambda: reading)):
        with pytest.raises(EvaluationError, match="must take time"):
            pair(candidate, reference)


def test_the_machine_is_held_while_timing_and_free_while_the_measurement_yields(monkeypatch):
    held, seen = [], []

    @contextlib.contextmanager
    def measuring():
        held.append(True)
        yield
        held.pop()

    monkeypatch.setattr(protocol, "measuring", measuring)
    for _ in measure_paired(lambda: seen.append(bool(held)) or 1.0, lambda: 1.0, rng=np.random.default_rng(0)):
        assert not held
    assert set(seen) == {True}


class Watched:
    """A timer that notes which cores its thread may use while it runs."""

    def __init__(self, *, computes_in_caller, fails=False):
        self.computes_in_caller, self.fails = computes_in_caller, fails
        self.allowed = []

    def __call__(self):
        self.allowed.append(os.sched_getaffinity(0))
        return 1 / 0 if self.fails else 1.0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system keeps no thread on a core")
@pytest.mark.parametrize("second_in_caller", [True, False])
def test_only_what_computes_in_the_calling_thread_stays_on_one_core_and_is_free_again(second_in_caller):
    before = os.sched_getaffinity(0)
    timers = Watched(computes_in_caller=True), Watched(computes_in_caller=second_in_caller)
    pair(Copies(lambda: timers[0], 2), timers[1], PairLimits(min_pairs=2, max_pairs=2))
    assert all((len(cores) == 1) or not second_in_caller for timer in timers for cores in timer.allowed)
    assert second_in_caller or all(cores == before for timer in timers for cores in timer.allowed)
    with pytest.raises(ZeroDivisionError):
        take_readings(Watched(computes_in_caller=True, fails=True), runs=3)
    assert os.sched_getaffinity(0) == before

import contextlib

import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.latency.lock import MachineLock
from starsearch.latency.paired import Copies, PairLimits, measure_paired, take_readings

from .generators import run


class Machine:
    """A clock for two networks on a machine whose speed wanders, with noise on every run."""

    def __init__(self, seed, *, ratio=1.0, noise=0.0, drift=0.0):
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


def measure(machine, limits=None, seed=0):
    return run(
        measure_paired(
            machine.candidate,
            machine.reference,
            rng=np.random.default_rng(seed),
            limits=limits or PairLimits(),
            alone=contextlib.nullcontext,
        )
    )


def test_the_ratio_is_found_on_a_machine_that_slows_down_severalfold():
    machine = Machine(0, ratio=0.7, noise=0.02, drift=0.05)
    _, paired = measure(machine)
    assert paired.ratio == pytest.approx(0.7, rel=0.05)
    assert paired.interval.low < 0.7 < paired.interval.high


def test_the_interval_holds_the_ratio_although_its_width_decides_when_to_stop():
    results = [measure(Machine(seed, ratio=1.5, noise=0.02), seed=seed)[1] for seed in range(400)]
    assert {result.pairs for result in results} > {20, 30, 40}  # the rule does stop at different numbers
    held = np.mean([result.interval.low <= 1.5 <= result.interval.high for result in results])
    assert held >= 0.92
    errors = np.array([result.ratio / 1.5 - 1 for result in results])
    assert np.mean([result.spread for result in results]) / 1.5 == pytest.approx(errors.std(), rel=0.25)


def test_a_steady_machine_needs_the_fewest_pairs_and_a_wild_one_the_most():
    limits = PairLimits(min_pairs=24, max_pairs=55)
    assert measure(Machine(0), limits)[1].pairs == 25  # whole stretches of five
    assert measure(Machine(0, noise=0.5), limits)[1].pairs == 55


def test_every_stretch_is_warmed_up_and_each_pair_is_one_network_around_the_other_in_random_order():
    machine = Machine(0)
    measure(machine, PairLimits(min_pairs=10, max_pairs=10))
    first, second = machine.calls[6:26], machine.calls[28:48]
    assert len(machine.calls) == 48
    pairs = [tuple(calls[i : i + 4]) for calls in (first, second) for i in range(0, 20, 4)]
    assert {pair[0] == pair[3] != pair[1] == pair[2] for pair in pairs} == {True}
    assert 2 <= sum(pair[0] == "candidate" for pair in pairs) <= 8


@pytest.mark.parametrize("runs", [2, 6])
def test_a_steady_drift_within_a_pair_leaves_the_ratio_alone(runs):
    machine = Machine(0, ratio=2.0)
    machine.rng = type("Steady", (), {"normal": staticmethod(lambda: 1.0)})()
    machine.drift = 0.01  # each run a hundredth slower than the one before
    _, paired = measure(machine, PairLimits(runs=runs))
    assert paired.ratio == pytest.approx(2.0, rel=1e-9)


def test_a_pair_of_more_runs_minds_outliers_less():
    def scatter(runs):
        limits = PairLimits(min_pairs=40, max_pairs=40, runs=runs)
        return np.std([measure(Machine(seed, noise=0.1), limits, seed=seed)[1].ratio for seed in range(60)])

    # Three times the runs: the standard deviation of a median falls by the root of three.
    assert scatter(6) < 0.8 * scatter(2)


class Numbered:
    """Counts the runs of one copy."""

    def __init__(self, made):
        self.runs = 0
        made.append(self)

    def __call__(self):
        self.runs += 1
        return 10.0


def test_copies_of_a_network_take_turns_and_are_made_when_their_turn_comes():
    made, reference = [], Machine(0).reference
    copies = Copies(lambda: Numbered(made), 3)
    assert len(made) == 1, "one at once, so that a network that cannot run is told before anything is timed"
    limits = PairLimits(min_pairs=20, max_pairs=20)
    _, paired = run(
        measure_paired(copies, reference, rng=np.random.default_rng(0), limits=limits, alone=contextlib.nullcontext)
    )
    assert paired.pairs == 20
    # Four stretches of five pairs: the first copy has two of them. Warm-up: three runs when new, one later.
    assert [copy.runs for copy in made] == [3 + 10 + 1 + 10, 3 + 10, 3 + 10]


def test_fewer_stretches_make_fewer_copies():
    made = []
    steps = measure_paired(
        Copies(lambda: Numbered(made), 4),
        Machine(0).reference,
        rng=np.random.default_rng(0),
        limits=PairLimits(min_pairs=10, max_pairs=10),
        alone=contextlib.nullcontext,
    )
    run(steps)
    assert len(made) == 2


def test_the_same_seed_gives_the_same_order():
    one, two, other = Machine(0), Machine(0), Machine(0)
    measure(one, seed=1)
    measure(two, seed=1)
    measure(other, seed=2)
    assert one.calls == two.calls != other.calls


def test_progress_is_told_after_each_stretch_and_ends_whole():
    progress, paired = measure(Machine(0, noise=0.05))
    assert [p.values["pairs"] for p in progress] == list(range(5, paired.pairs + 1, 5))
    assert {p.stage for p in progress} == {"latency"}
    fractions = [p.fraction for p in progress]
    assert fractions == sorted(fractions)
    assert all(0 < fraction < 1 for fraction in fractions[:-1])
    assert progress[-1].fraction == 1


@pytest.mark.parametrize("limits", [PairLimits(min_pairs=2, max_pairs=2), PairLimits(half_width=0.0)])
def test_extreme_limits_are_kept(limits):
    progress, paired = measure(Machine(0, noise=0.02), limits)
    assert paired.pairs == limits.max_pairs
    assert progress[-1].fraction == 1


@pytest.mark.parametrize(
    "values",
    [
        {"min_pairs": 1},
        {"min_pairs": 50, "max_pairs": 40},
        {"half_width": -0.1},
        {"half_width": float("nan")},
        {"runs": 0},
        {"runs": 3},
    ],
)
def test_limits_that_cannot_be_met_are_refused(values):
    with pytest.raises(ValueError, match=r"at least|≤"):
        PairLimits(**values)


@pytest.mark.parametrize("reading", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("broken", ["candidate", "reference"])
def test_a_clock_that_stands_still_fails_the_candidate_in_words(reading, broken):
    machine = Machine(0)
    setattr(machine, broken, lambda: reading)
    with pytest.raises(EvaluationError, match="must take time"):
        measure(machine)
    with pytest.raises(EvaluationError, match="must take time"):
        take_readings(getattr(machine, broken), runs=3, alone=contextlib.nullcontext)


def test_the_machine_is_held_while_timing_and_free_while_the_measurement_yields(tmp_path):
    lock, machine = MachineLock(tmp_path), Machine(0)
    modes = []

    def candidate():
        modes.append(lock._thread.mode)
        return machine.candidate()

    generator = measure_paired(candidate, machine.reference, rng=np.random.default_rng(0), alone=lock.measuring)
    for _ in generator:
        assert lock._thread.mode is None
    assert set(modes) == {"measuring"}


def test_readings_are_as_many_as_asked_for_after_warming_up():
    machine = Machine(0)
    assert take_readings(machine.candidate, runs=25, alone=contextlib.nullcontext) == [10.0] * 25
    assert len(machine.calls) == 25 + 3 + 1 + 1


def test_a_result_says_whether_its_interval_closed_and_how_the_reference_went():
    _, steady = measure(Machine(0))
    assert steady.is_closed
    assert steady.reference_ms == pytest.approx([10.0] * steady.pairs)
    machine = Machine(0, noise=0.5, drift=0.05)
    _, wild = measure(machine, PairLimits(min_pairs=20, max_pairs=30))
    assert not wild.is_closed
    assert len(wild.reference_ms) == wild.pairs == 30
    assert len(set(wild.reference_ms)) == 30

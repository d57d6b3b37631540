"""The sampler auto: its criterion against Monte Carlo, its choices on a space whose results are known."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from starsearch.accuracy.posterior import fit_posterior
from starsearch.errors import SpecError
from starsearch.measurement import Measurement
from starsearch.objective import Constraint, Objective
from starsearch.pareto import hypervolume
from starsearch.recipe import Fidelity
from starsearch.search.auto import AutoProposer
from starsearch.search.compute import Compute
from starsearch.search.events import TrialStarted
from starsearch.search.improvement import expected_improvement, gain_for_compute
from starsearch.search.planned import anchor_trials
from starsearch.search.promotion import expected_losses
from starsearch.search.proposer import Proposer
from starsearch.study.spec import Halving, Rung
from starsearch.study.study_file import load_study
from tests.search.studies import WIDE, make_spec, measure, run

OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))


def make_auto(**changes):
    spec = make_spec(WIDE, sampler="auto", **{"objectives": OBJECTIVES, "constraints": (), **changes})
    return replace(spec, space=replace(spec.space, anchors=("starnet_s1",)))


def judge(trial, seed=0):
    """The known truth with a noise of half a point, as a proxy on 10,000 images has it."""
    noise = 0.5 * np.random.default_rng([seed, int(trial.key[:8], 16)]).standard_normal()
    top1, _, macs = measure(trial.candidate)
    return replace(trial, state="complete", readings=(replace(top1, value=top1.value + noise, spread=0.5), macs))


def search(proposer, spec, evaluations):
    """Evaluate the anchors and what is proposed; return the trials in their order."""
    todo, ended = list(anchor_trials(spec)), []
    while len(ended) < evaluations:
        trial = todo.pop(0) if todo else proposer.propose()
        proposer.adopt(trial)
        ended.append(judge(trial, spec.seed))
        proposer.tell(ended[-1])
    return ended


def dominated(trials):
    """The hypervolume of the trials' true values."""
    true = [{one.name: one.value for one in measure(trial.candidate)} for trial in trials]
    losses = np.array([(60 - one["top1_percent"], one["macs"] / 1e9) for one in true])
    return hypervolume(losses[(losses <= [20, 0.7]).all(axis=1)], np.array([20, 0.7]))


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_expected_improvement_is_the_mean_of_drawn_ones(objectives):
    rng = np.random.default_rng(0)
    front, reference = rng.uniform(0.2, 1, (6, objectives)), np.ones(objectives)
    mean, std = rng.uniform(0, 1, (5, objectives)), rng.uniform(0.02, 0.3, (5, objectives))
    std[:, -1] *= np.arange(5) > 1  # of the first two the last loss is known
    before, drawn = hypervolume(front, reference), []
    for row in range(5):
        draws = np.minimum(rng.normal(mean[row], std[row], (4_000, objectives)), reference)
        drawn.append([hypervolume(np.vstack([front, draw]), reference) - before for draw in draws])
    errors = np.std(drawn, axis=1) / 4_000**0.5
    assert np.abs(expected_improvement(mean, std, front, reference) - np.mean(drawn, axis=1)) == pytest.approx(
        0, abs=1e-9 + 4 * errors.max()
    )


def test_a_training_goes_on_after_the_values_where_that_pays_best():
    rng = np.random.default_rng(0)
    gains, weights = rng.exponential(1, (4, 30)), np.array([0.1, 0.4, 0.3, 0.2])
    now, later = rng.uniform(0.1, 1, (2, 30))
    rates, always = gain_for_compute(gains, weights, now, later)
    subsets = [np.array(one) for one in itertools.product([0, 1], repeat=4) if any(one)]
    found = [(one * weights) @ gains / (now + later * (one @ weights)) for one in subsets]
    assert rates == pytest.approx(np.max(found, axis=0))
    assert (always == (np.argmax(found, axis=0) == len(subsets) - 1)).all()
    assert 0 < always.sum() < 30


def test_shares_of_compute_follow_from_what_trainings_took():
    halving = Halving(eta=3, rungs=(Rung(epochs=1), Rung(epochs=3)))
    spec = make_auto(halving=halving, fidelity=Fidelity(epochs=9))
    pool = [one for one in draw(spec, 12) if not one.is_anchor]
    # Four seconds to begin, and an epoch takes one and another for each 100 million multiply-adds.
    epoch = np.array([1 + measure(one.candidate)[2].value / 1e8 for one in pool])
    ended = [replace(one, number=row, seconds=4 + 9 * epoch[row]) for row, one in enumerate(pool)]
    ended += [
        replace(ended[0], number=20, seconds=4 + epoch[0], rung=0),
        replace(ended[0], number=21, seconds=8 * epoch[0], continues=20),
    ]
    waiting = [replace(one, rung=1) for one in pool]
    assert Compute(spec).shares(pool, ended[:3]) == pytest.approx(np.tile([1 / 9, 8 / 9], (11, 1)))
    whole = 4 + 9 * epoch
    assert Compute(spec).shares(pool, ended) == pytest.approx(np.array([4 + epoch, 8 * epoch]).T / whole[:, None])
    assert Compute(spec).shares(waiting, ended) == pytest.approx(np.array([2 * epoch, 6 * epoch]).T / whole[:, None])


def draw(spec, evaluations):
    """Evaluate the anchors and random candidates."""
    return search(Proposer(replace(spec, sampler="random"), []), spec, evaluations)


def test_a_known_front_takes_fewer_evaluations_than_at_random():
    spec = make_auto()
    assert dominated(search(AutoProposer(spec, []), spec, 16)) > dominated(draw(spec, 40))


def test_known_constraints_hold_in_every_proposal():
    spec = make_auto(constraints=(Constraint(name="macs", high=0.3e9),))
    proposer = AutoProposer(spec, draw(spec, 8))
    assert all(judge(proposer.propose()).values["macs"] <= 0.3e9 for _ in range(4))


@pytest.mark.parametrize("complete", [0, 1])
@pytest.mark.parametrize("limit", [("macs", 0.3e9), ("latency_ms", 3.0)])  # of what is computed, and only measured
def test_what_waits_at_a_rung_is_learned_from_where_nothing_complete_keeps_the_constraints(complete, limit):
    name, most = limit
    halving = Halving(eta=3, rungs=(Rung(epochs=1),))
    spec = make_auto(constraints=(Constraint(name=name, high=most),), halving=halving, fidelity=Fidelity(epochs=3))
    stopped = [
        replace(one, state="pruned", rung=0, epochs=1, number=row, readings=measure(one.candidate))
        for row, one in enumerate(draw(spec, 24))
    ]
    ended = [replace(one, state="complete", rung=None, epochs=None) for one in stopped[:complete]]  # S1, beyond both
    proposer, macs = AutoProposer(spec, [*ended, *stopped[complete:]]), []
    for _ in range(4):  # beside what runs
        trial = proposer.propose()
        why = proposer.adopt(trial)
        assert re.match(r"expected to add most to the front for its compute, .*; (trains|goes on)", why), why
        macs.append(measure(trial.candidate)[2].value)
    assert max(macs) < 0.4e9


def test_the_most_likely_to_keep_the_constraints_comes_first_while_none_does():
    spec = make_auto(constraints=(Constraint(name="top1_percent", low=70),))
    proposer = AutoProposer(spec, draw(spec, 12))
    assert re.match(r"most likely to keep the constraints: Top-1 ≈ \d+", proposer.adopt(proposer.propose()))


def test_a_cost_may_be_0():
    goals = (*OBJECTIVES[:1], Objective(name="coreml_cpu_percent", direction="minimize"))
    spec = make_auto(objectives=goals, constraints=(Constraint(name="coreml_cpu_percent", high=0),))
    nothing = Measurement(name="coreml_cpu_percent", value=0.0)
    proposer = AutoProposer(spec, [replace(one, readings=(*one.readings, nothing)) for one in draw(make_auto(), 8)])
    assert re.match(r"expected to add most to the front, .* ≈ 0\.00 %$", proposer.adopt(proposer.propose()))


def test_small_costs_are_told_apart():
    goals = (*OBJECTIVES[:1], Objective(name="energy_mj", direction="minimize"))
    values = np.geomspace(1e-5, 5e-4, 8)
    ended = [
        replace(one, readings=(*one.readings, Measurement(name="energy_mj", value=float(value))))
        for one, value in zip(draw(make_auto(), 8), values, strict=True)
    ]
    found = AutoProposer(make_auto(objectives=goals), ended).expected(ended)
    assert found[:, 1] == pytest.approx(np.log(values))


def test_what_was_measured_before_a_rung_is_known_after_it():
    goals = (*OBJECTIVES[:1], Objective(name="latency_ms", direction="minimize"))
    spec = make_auto(objectives=goals, halving=Halving(eta=3, rungs=(Rung(epochs=1),)), fidelity=Fidelity(epochs=3))
    rng, ended = np.random.default_rng(0), []
    for row, one in enumerate(draw(make_auto(), 12)):
        latency = Measurement(name="latency_ms", value=float(rng.uniform(1, 9)), runs=9)
        ended.append(replace(one, state="pruned", rung=0, epochs=1, number=row, readings=(*one.readings, latency)))
    found = AutoProposer(spec, ended).expected([replace(one, readings=(), rung=1) for one in ended])
    assert found[:, 1] == pytest.approx([np.log(one.values["latency_ms"]) for one in ended])


def test_running_candidates_are_neither_proposed_again_nor_crowded():
    spec = make_auto()
    proposer = AutoProposer(spec, draw(spec, 12))
    batch = [judge(proposer.propose()) for _ in range(4)]
    assert len({trial.key for trial in batch}) == 4
    costs = sorted(trial.values["macs"] for trial in batch)
    assert costs[-1] > 1.5 * costs[0], "they lie in different places of the front"


def test_the_same_record_gives_the_same_proposal_and_no_known_candidate():
    spec = make_auto()
    ended = draw(spec, 12)
    first, again = AutoProposer(spec, ended).propose(), AutoProposer(spec, ended).propose()
    assert first == again
    assert first.key not in {trial.key for trial in ended}


def test_promotion_goes_by_what_all_trials_let_expect_of_each():
    spec = make_auto()
    ended = draw(spec, 61)
    expected = expected_losses(spec, ended, ended)
    true = np.array([[-measure(one.candidate)[0].value, one.values["macs"]] for one in ended])
    raw = np.array([one.losses(spec.objectives) for one in ended])
    assert (expected[:, 1] == true[:, 1]).all()
    assert np.abs(expected - true)[:, 0].mean() < 0.8 * np.abs(raw - true)[:, 0].mean()


def test_a_run_says_of_each_proposal_what_is_expected_of_it(tmp_path):
    events = []
    run(tmp_path, make_spec(sampler="auto", objectives=OBJECTIVES, trials=5), watch=events.append)
    said = [event.why for event in events if isinstance(event, TrialStarted)]
    assert said[:4] == [""] * 4, "the anchor and random ones"
    number = r"[\d.]+"
    words = rf"expected to add most to the front, {number} % of its hypervolume: "
    values = rf"Top-1 ≈ {number} \({number}–{number}\) %(?: \(imagenet not used\))?, MACs ≈ {number} M"
    assert all(re.fullmatch(words + values, one) for one in said[4:]), said


def test_a_proposal_says_where_its_estimate_rests_on_less_than_is_known(monkeypatch):
    def fit_law(*told, **options):
        return replace(fit_posterior(*told, **options), kind="scaling law", unused=("imagenet",))

    monkeypatch.setattr("starsearch.search.auto.fit_posterior", fit_law)
    spec = make_auto()
    proposer = AutoProposer(spec, draw(spec, 4))
    why = proposer.adopt(proposer.propose())
    assert "% (imagenet not used; by the scaling law: no fit converged), MACs" in why


def test_a_study_that_searches_the_recipe_is_refused_in_words(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("space: starnet\nrecipe: {lr: {low: 1e-3, high: 1e-2}}\nsearch: {sampler: auto}\n")
    with pytest.raises(SpecError, match=r"auto models networks, not recipes.* recipe\.lr: say sampler: tpe"):
        load_study(str(path))


def test_what_is_gained_over_a_single_feasible_network_is_no_endless_share():
    ended = draw(make_auto(), 12)
    least = sorted(trial.values["macs"] for trial in ended)[0]
    spec = make_auto(constraints=(Constraint(name="macs", high=1.01 * least),))
    proposer = AutoProposer(spec, ended)
    trial = proposer.propose()
    why = proposer.adopt(trial)
    assert trial.values == {}
    assert "more than it dominates so far" in why or float(re.search(r"([\d.]+) % of its", why)[1]) < 100
    assert "-0.0" not in why

import random
from contextlib import contextmanager
from dataclasses import replace

import optuna
import pytest

from starsearch.errors import EvaluationError, StudyError, StudyLeasedError
from starsearch.evaluators.evaluator import Untrained
from starsearch.measurement import Measurement
from starsearch.objective import Constraint
from starsearch.records.record import DRIVER_DIED, StudyRecord, hold_lease
from starsearch.records.table import load_trials
from starsearch.samplers import SAMPLERS, SamplerKind
from starsearch.search.driver import run_study
from starsearch.search.events import StudyEnded, StudyStarted, TrialEnded, TrialProgressed, TrialStarted
from starsearch.search.executor import LocalExecutor
from starsearch.search.proposer import Proposer
from starsearch.space import FloatParameter
from starsearch.trial import Trial
from tests.search.studies import NARROW, OBJECTIVES, WIDE, FakeEvaluator, make_spec, measure, opened, run, url_of


def raising(error):
    def misbehave(candidate):
        raise error

    return misbehave


def test_anchors_run_first_and_are_not_counted_as_searched(tmp_path):
    events = []
    ended = run(tmp_path, make_spec(WIDE, trials=5), watch=events.append)
    assert ended == StudyEnded(finished=7, wanted=7, why="complete")
    trials = load_trials(url_of(tmp_path))
    assert trials["anchor"].tolist() == ["starnet_s1", "starnet_s2", None, None, None, None, None]
    assert events[0] == StudyStarted(finished=0, wanted=7, resumed=False)
    assert [type(event) for event in events[1:4]] == [TrialStarted, TrialProgressed, TrialEnded]
    assert events[-1] == ended


def test_no_candidate_is_evaluated_twice_until_the_space_is_exhausted(tmp_path):
    evaluator = FakeEvaluator()
    ended = run(tmp_path, make_spec(trials=100), evaluator)
    assert ended == StudyEnded(finished=12, wanted=101, why="space exhausted")
    assert len(evaluator.asked) == len(set(evaluator.asked)) == 12
    assert run(tmp_path, make_spec(trials=100), again := FakeEvaluator()).why == "space exhausted"
    assert again.asked == []


def test_a_study_that_has_its_trials_ends_at_once_and_takes_more_later(tmp_path):
    run(tmp_path, make_spec(trials=3))
    evaluator, events = FakeEvaluator(), []
    assert run(tmp_path, make_spec(trials=3), evaluator) == StudyEnded(finished=4, wanted=4, why="complete")
    assert evaluator.asked == []
    run(tmp_path, make_spec(trials=5), watch=events.append)
    assert events[0] == StudyStarted(finished=4, wanted=6, resumed=True)
    assert len(load_trials(url_of(tmp_path))) == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_runs_two_objectives_under_constraints_and_goes_on(tmp_path, sampler):
    first, second = FakeEvaluator(), FakeEvaluator()
    assert run(tmp_path, make_spec(NARROW, sampler=sampler, trials=10), first).why == "complete"
    assert run(tmp_path, make_spec(NARROW, sampler=sampler, trials=11), second).why == "complete"
    asked = first.asked + second.asked
    assert len(asked) == len(set(asked)) == 12
    trials = load_trials(url_of(tmp_path))
    assert (trials["macs"] <= 0.7e9).all()
    assert (trials["feasible"] == (trials["latency_ms"] <= 8)).all()


def test_a_sampler_is_a_row(tmp_path, monkeypatch):
    kind = SamplerKind(factory=optuna.samplers.RandomSampler, max_asks=20, learns=False)
    monkeypatch.setitem(SAMPLERS, "uniform", kind)
    assert run(tmp_path, make_spec(sampler="uniform", trials=100)).finished == 12


def test_a_resumed_nsga2_goes_on_with_its_generations(tmp_path):
    run(tmp_path, make_spec(WIDE, sampler="nsga2", trials=40))
    run(tmp_path, make_spec(WIDE, sampler="nsga2", trials=44))
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials]
    assert generations == sorted(generations)
    assert generations[-1] >= 2
    assert generations[-4] >= generations[-5]


@pytest.mark.parametrize("state", ["FAIL", "COMPLETE"])
def test_a_running_trial_that_is_ended_by_hand_ends_no_run(tmp_path, state):
    ended = []

    def end_by_hand(event):
        if isinstance(event, TrialProgressed) and event.trial.number == 2 and not ended:
            study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
            ended.append(event.trial.number)
            study.tell(2, state=optuna.trial.TrialState[state], values=[1.0, 1.0] if state == "COMPLETE" else None)

    assert run(tmp_path, make_spec(trials=4), watch=end_by_hand).why == "complete"
    assert run(tmp_path, make_spec(trials=5)).why == "complete"
    states = load_trials(url_of(tmp_path))["state"].tolist()
    assert states == ["COMPLETE"] * 2 + ["FAIL" if state == "FAIL" else "FOREIGN"] + ["COMPLETE"] * 4


def test_a_failed_candidate_is_a_failed_trial_with_its_reason_and_is_not_evaluated_again(tmp_path):
    def fail_on_sums(candidate):
        if "sum" in candidate.architecture.ops:
            raise RuntimeError("no sums today\nsecond line")

    evaluator = FakeEvaluator(fail_on_sums)
    events = []
    run(tmp_path, make_spec(trials=5), evaluator, watch=events.append)
    run(tmp_path, make_spec(trials=99), again := FakeEvaluator())
    trials = load_trials(url_of(tmp_path))
    failed = trials[trials["state"] == "FAIL"]
    assert len(failed) > 0
    for number, reason in zip(failed["number"], failed["reason"], strict=True):
        assert reason == f"RuntimeError: no sums today (logs/trial-{number}.txt)"
    assert not failed["feasible"].any()
    ended = [event.trial for event in events if isinstance(event, TrialEnded)]
    assert {trial.number for trial in ended if trial.state == "fail"} == set(failed["number"])
    log = (tmp_path / "logs" / f"trial-{failed['number'].iloc[0]}.txt").read_text()
    assert "Traceback" in log
    assert "second line" in log
    asked = evaluator.asked + again.asked
    assert len(asked) == len(set(asked)) == 12


@pytest.mark.parametrize(
    ("measurements", "reason"),
    [
        ((), "The evaluation returned no top1_percent; it returned nothing."),
        ((Measurement(name="macs", value=1),), "The evaluation returned no top1_percent; it returned macs."),
        (
            (Measurement(name="top1_percent", value=float("nan")), Measurement(name="latency_ms", value=1)),
            "The evaluation returned top1_percent = nan; a finite number is needed.",
        ),
        (
            (Measurement(name="top1_percent", value=100.0001), Measurement(name="latency_ms", value=1)),
            "The evaluation returned top1_percent = 100.0001; it lies in 0..100 %.",
        ),
        (
            (Measurement(name="top1_percent", value=9, spread=float("inf")), Measurement(name="latency_ms", value=1)),
            "The evaluation returned top1_percent with the spread inf; none, or 0 and more.",
        ),
    ],
)
def test_measurements_that_do_not_serve_the_objectives_fail_the_trial(tmp_path, measurements, reason):
    def evaluate(candidate, *, seed, weights, part=None):
        yield from ()
        return measurements

    run(tmp_path, make_spec(trials=1), evaluate, deadline=0.0)
    with pytest.raises(StudyError, match="in a row have failed"):
        run(tmp_path, make_spec(WIDE, name="wide", trials=30), evaluate)
    assert set(load_trials(url_of(tmp_path), "wide")["reason"]) == {reason}


def test_twenty_failures_in_a_row_stop_the_study_and_failed_anchors_run_again(tmp_path):
    spec = make_spec(WIDE, trials=30)

    def half_write(candidate, *, seed, weights, part=None):
        weights.write_text("half")
        raise OSError("no data")
        yield

    with pytest.raises(StudyError, match=r"20 candidates in a row .* trial 19, with: OSError: no data"):
        run(tmp_path, spec, half_write)
    assert len(load_trials(url_of(tmp_path))) == 20
    assert list(tmp_path.glob("weights/*")) == []
    run(tmp_path, make_spec(WIDE, trials=1))
    trials = load_trials(url_of(tmp_path))
    assert trials[trials["state"] == "COMPLETE"]["anchor"].tolist() == ["starnet_s1", "starnet_s2", None]
    with pytest.raises(StudyError, match=r"one reason: correct the recipe .* A study without a finished trial takes"):
        run(
            tmp_path,
            make_spec(WIDE, name="recipe", trials=30),
            FakeEvaluator(raising(EvaluationError("no such policy"))),
        )


def test_anchors_are_trained_by_drawn_recipes_too_and_more_of_them_go_on_from_the_same(tmp_path):
    lr = FloatParameter(name="recipe.lr", low=1e-3, high=1e-2, log=True)
    spec = make_spec(trials=2, anchor_recipes=2)
    spec = replace(spec, space=replace(spec.space, recipe_parameters=(lr,)))
    ended = run(tmp_path, spec)
    assert (ended.finished, ended.wanted, ended.why) == (5, 5, "complete")
    assert run(tmp_path, replace(spec, anchor_recipes=4)).finished == 7
    trials = load_trials(url_of(tmp_path))
    anchors = trials[trials["anchor"] == "starnet_s1"]
    assert len(trials) == 7
    assert len(anchors) == anchors["params_recipe.lr"].nunique() == 5
    assert anchors["architecture"].nunique() == 1
    assert anchors["params_recipe.lr"].iloc[0] == spec.recipe.lr


def test_no_trial_is_begun_when_the_time_is_over(tmp_path):
    evaluator = FakeEvaluator()
    ended = run(tmp_path, make_spec(), evaluator, deadline=0.0)
    assert ended == StudyEnded(finished=0, wanted=7, why="time budget")
    assert evaluator.asked == []


def test_an_interrupted_candidate_runs_again_once(tmp_path):
    state = {"left": 2}

    def interrupt_second(candidate):
        state["left"] -= 1
        if state["left"] == 0:
            raise KeyboardInterrupt

    first, second, third = FakeEvaluator(interrupt_second), FakeEvaluator(), FakeEvaluator()
    assert run(tmp_path, make_spec(trials=4), first) == StudyEnded(finished=1, wanted=5, why="interrupted")
    assert run(tmp_path, make_spec(trials=4), second).why == "complete"
    assert run(tmp_path, make_spec(trials=6), third).why == "complete"
    assert second.asked[0] == first.asked[1]
    assert first.asked[1] not in second.asked[1:] + third.asked
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    assert study.trials[1].user_attrs["lost"] is True
    assert load_trials(url_of(tmp_path))["retry_of"].dropna().to_dict() == {2: 1}
    assert study.trials[2].params == study.trials[1].params


@pytest.mark.parametrize("epochs", [[0, 0, 0], [1, 2, 3]])
def test_a_candidate_that_three_drivers_died_of_is_not_tried_again_unless_it_trained_further(tmp_path, epochs):
    spec = make_spec(trials=100)
    params = {"embed_dim": 16, "ops": "sum", "kernel_size": 5}
    trial = Trial(candidate=spec.space.decode(params, spec.recipe), params=params)
    with opened(tmp_path, spec) as record:
        for epoch in epochs:
            started = record.start(trial)
            if epoch:
                record.report(started, epoch=epoch, value=50.0)
            if started.number < 2:  # the last one's death is found by the driver that follows
                (lost,) = record.fail_running(DRIVER_DIED)
                trial = lost.again()
    evaluator = FakeEvaluator()
    assert run(tmp_path, spec, evaluator).why == "space exhausted"
    assert (trial.key in evaluator.asked) == any(epochs)
    assert len(evaluator.asked) == 11 + any(epochs)
    last = load_trials(url_of(tmp_path)).iloc[2]
    assert (last["state"], "last of 3 tries" in last["reason"]) == (
        "INTERRUPTED" if any(epochs) else "FAIL",
        not any(epochs),
    )


def test_the_end_of_a_trial_leaves_the_weights_alone_that_others_are_writing(tmp_path):
    class Two:
        """Both have written their weights before the first ends."""

        capacity = 2

        def __init__(self):
            self.jobs = []

        def submit(self, job):
            job.weights.write_text(str(job.number))
            self.jobs.append(job)

        def next(self):
            job = self.jobs.pop(0)
            return job.number, measure(job.candidate)

        def close(self):
            pass

    run(tmp_path, make_spec(trials=6, keep_weights="all"), make_executor=lambda _: Two())
    assert load_trials(url_of(tmp_path))["weights"].notna().all()


@pytest.mark.parametrize("keep", ["front", "all", "none"])
def test_weights_are_kept_of_the_front_and_the_anchors(tmp_path, keep):
    spec = make_spec(WIDE, trials=12, keep_weights=keep)
    run(tmp_path, spec)
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    feasible = [t for t in study.trials if all(v <= 0 for v in t.constraints.values())]

    def is_beaten(trial):
        top1, latency = trial.values
        return any(o.values[0] >= top1 and o.values[1] <= latency and o.values != trial.values for o in feasible)

    front = {t.number for t in feasible if not is_beaten(t)}
    expected = {"front": front | {0, 1}, "all": set(range(14)), "none": set()}[keep]
    trials = load_trials(url_of(tmp_path))
    assert set(trials["number"][trials["weights"].notna()]) == expected
    assert {p.name for p in tmp_path.glob("weights/*")} == {f"trial-{number}.safetensors" for number in expected}


def test_optuna_reads_the_study_with_names_constraints_and_curves(tmp_path):
    run(tmp_path, make_spec(trials=3))
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    assert study.metric_names == [objective.name for objective in OBJECTIVES]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial in study.trials:
        found = {one["name"]: one["value"] for one in trial.user_attrs["readings"]}
        top1, latency = trial.values
        assert (top1, latency) == (found["top1_percent"], found["latency_ms"])
        assert trial.constraints == {"latency_ms.max": pytest.approx(latency - 8)}
        assert trial.intermediate_values == {1: 50.0}
    # optuna's own front of the feasible trials, against a look at every pair
    feasible = [t for t in study.trials if t.constraints["latency_ms.max"] <= 0]
    beaten = {
        t.number
        for t in feasible
        for u in feasible
        if u.values[0] >= t.values[0] and u.values[1] <= t.values[1] and u.values != t.values
    }
    assert {t.number for t in study.best_trials} == {t.number for t in feasible} - beaten


def test_a_resumed_sampler_knows_the_finished_trials_and_repeats_no_suggestion(tmp_path):
    spec = make_spec(WIDE, sampler="random", trials=6)
    run(tmp_path, spec)
    with opened(tmp_path, spec) as record:
        recorded = record.trials()
    proposed = Proposer(spec, recorded).propose().params
    assert proposed not in [trial.params for trial in recorded]
    assert proposed != Proposer(spec, []).propose().params
    assert proposed == Proposer(spec, recorded).propose().params, "the same record gives the same suggestion"


def test_a_full_disk_stops_the_study_in_words_and_loses_nothing(tmp_path):
    spec = make_spec(WIDE, trials=30)
    record = StudyRecord.open(url_of(tmp_path), spec)

    def fill_disk(candidate):
        with record._storage.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StudyError, match="the disk is full") as raised:
        run_study(spec, record, LocalExecutor(FakeEvaluator(fill_disk)))
    record.close()
    assert "Finished trials are kept" in str(raised.value)
    before = load_trials(url_of(tmp_path))
    assert len(before) >= 1
    run(tmp_path, spec)
    after = load_trials(url_of(tmp_path))
    assert (after["state"] == "COMPLETE").sum() == 32
    assert "RUNNING" not in set(after["state"])
    finished = before[before["state"] == "COMPLETE"]["architecture"]
    assert set(finished) <= set(after["architecture"])


def test_a_driver_that_loses_its_lease_stops_before_it_writes(tmp_path):
    spec = make_spec(trials=5)
    record = StudyRecord.open(url_of(tmp_path), spec)

    def lose_lease(candidate):
        record.set_attribute("lease", {**record.attribute("lease"), "holder": "another"})
        leases[0].renew()

    leases = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("starsearch.search.driver.hold_lease", lambda held: keep(hold_lease(held), leases))
        with pytest.raises(StudyLeasedError, match="has lost the study"):
            run_study(spec, record, LocalExecutor(FakeEvaluator(lose_lease)))
    record.close()
    assert load_trials(url_of(tmp_path))["state"].tolist() == ["RUNNING"], "it may be another driver's by now"


@contextmanager
def keep(context, kept):
    with context as value:
        kept.append(value)
        yield value


@pytest.mark.parametrize("sampler", ["tpe", "auto"])
def test_what_breaks_a_constraint_before_its_training_is_no_failure_and_counts_as_no_trial(tmp_path, sampler):
    def quick(candidate, *, seed, weights, part):
        yield from ()
        _, latency, macs = found = measure(candidate)
        return Untrained((latency, macs)) if latency.value > 4.5 and candidate.anchor is None else found

    limit = {"constraints": (Constraint(name="latency_ms", high=4.5),), "sampler": sampler}
    spec = make_spec(WIDE.replace("  macs: {max: 0.7e9}", "  macs: {max: 2e9}"), **limit)
    for trials in (5, 15):
        run(tmp_path, replace(spec, trials=trials), quick)
    trials = load_trials(url_of(tmp_path))
    slow = trials[trials["state"] == "UNTRAINED"]
    assert (trials["state"] == "COMPLETE").sum() == 15 + 2
    assert slow["latency_ms"].gt(4.5).all()
    assert slow["top1_percent"].isna().all()
    assert set(slow["reason"]) == {"Not trained: latency_ms is not at most 4.5."}
    assert "FAIL" not in set(trials["state"])
    rng = random.Random(0)
    drawn = [measure(spec.space.decode(spec.space.sample(rng), spec.recipe))[1].value for _ in range(300)]
    expected = 15 * sum(one > 4.5 for one in drawn) / sum(one <= 4.5 for one in drawn)
    assert 0 < len(slow) < expected, "it learns what is too slow"


def test_an_evaluator_that_forgets_an_objective_fails_also_where_a_constraint_is_broken(tmp_path):
    def forget(candidate, *, seed, weights, part):
        yield from ()
        return measure(candidate)[1:]

    run(tmp_path, make_spec(trials=2, constraints=(Constraint(name="latency_ms", high=0.001),)), forget)
    trials = load_trials(url_of(tmp_path))
    assert set(trials["state"]) == {"FAIL"}
    assert trials["reason"].str.startswith("The evaluation returned no top1_percent").all()

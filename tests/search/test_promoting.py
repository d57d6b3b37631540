"""Who comes from one fidelity to the next, in the driver: order, failures, interruption, a study that goes on."""

from dataclasses import replace

import numpy as np
import pytest

from starsearch.recipe import Fidelity
from starsearch.records.table import load_trials
from starsearch.search.driver import run_study
from starsearch.search.executor import LocalExecutor
from starsearch.search.promotion import look_below
from starsearch.study.spec import Promotion
from tests.search.studies import WIDE, FakeEvaluator, make_spec, measure, opened, url_of

PROXY = make_spec(WIDE, sampler="random", trials=12, fidelity=Fidelity(epochs=1), constraints=())


def full(**promotion):
    promotion = Promotion(**{"best": 3, **promotion})
    return replace(PROXY, name="small.full", fidelity=Fidelity(name="full", epochs=9), promotion=promotion, trials=3)


def climb(folder, spec, evaluator, *, proxy=PROXY, first=None):
    """Run the proxies, then who is promoted; returns how the latter ended."""
    with opened(folder, proxy) as record:
        run_study(proxy, record, LocalExecutor(first or FakeEvaluator()), folder=folder)
        below = look_below(spec, below=proxy, record=record, folder=folder)
    with opened(folder, spec) as record:
        return run_study(spec, record, LocalExecutor(evaluator), folder=folder / "full", lower=below)


def tables(folder):
    return load_trials(url_of(folder), "small"), load_trials(url_of(folder), "small.full")


def peel(rows):
    """Front after front, by brute force: the numbers of the trials on each."""
    left = dict(rows)
    while left:
        front = [
            n for n, (a, b) in left.items()
            if not any(x >= a and y <= b and (x, y) != (a, b) for x, y in left.values())
        ]  # fmt: skip
        yield front
        left = {n: row for n, row in left.items() if n not in front}


def test_the_best_and_the_anchors_come_to_the_next_fidelity_and_say_where_from(tmp_path):
    ended = climb(tmp_path, full(), FakeEvaluator())
    below, above = tables(tmp_path)
    assert (ended.why, ended.finished) == ("complete", 5)
    assert sorted(above["anchor"].dropna()) == ["starnet_s1", "starnet_s2"]
    assert (above["fidelity"] == "full").all()
    came = below.set_index("number").loc[above["promoted_from"].astype(int)]
    assert came["architecture"].tolist() == above["architecture"].tolist()
    promoted = set(above.loc[above["anchor"].isna(), "promoted_from"].astype(int))
    searched = below[below["anchor"].isna()].set_index("number")
    fronts = list(peel({n: (row["top1_percent"], row["latency_ms"]) for n, row in searched.iterrows()}))
    assert promoted <= set(fronts[0]) or set(fronts[0]) <= promoted


def test_a_latency_measured_below_is_not_measured_again(tmp_path):
    evaluator = FakeEvaluator()
    known = []

    def remember(candidate, *, seed, weights, part):
        known.append({one.name for one in part.known})
        yield from FakeEvaluator.__call__(evaluator, candidate, seed=seed, weights=weights)
        return measure(candidate)

    climb(tmp_path, full(), remember)
    assert known == [{"latency_ms"}] * 5


def test_the_next_in_order_takes_the_place_of_one_that_fails_and_the_failed_is_not_tried_again(tmp_path):
    failures = []

    def fail_the_first(candidate):
        if candidate.anchor is None and not failures:
            failures.append(candidate.key)
            raise ValueError("too large")

    assert climb(tmp_path, full(), FakeEvaluator(fail_the_first)).finished == 5
    _, above = tables(tmp_path)
    assert above["state"].value_counts().to_dict() == {"COMPLETE": 5, "FAIL": 1}
    assert climb(tmp_path, full(), FakeEvaluator()).finished == 5
    assert len(tables(tmp_path)[1]) == 6


def test_those_drawn_at_random_stay_when_more_proxies_come(tmp_path):
    climb(tmp_path, full(best=1, random=3), FakeEvaluator())
    drawn = set(tables(tmp_path)[1]["architecture"])
    assert len(drawn) == 6, "and the two anchors"
    climb(tmp_path, full(best=1, random=3), FakeEvaluator(), proxy=replace(PROXY, trials=30))
    after = set(tables(tmp_path)[1]["architecture"])
    assert drawn <= after
    assert len(after - drawn) <= 1, "at most a new best one"


def test_one_that_was_cut_off_takes_no_place_of_a_wanted_one(tmp_path):
    def interrupt(candidate):
        if candidate.anchor is None:
            raise KeyboardInterrupt

    climb(tmp_path, full(best=1), FakeEvaluator(interrupt))
    climb(tmp_path, full(best=1), FakeEvaluator(), proxy=replace(PROXY, trials=60))
    below, above = tables(tmp_path)
    searched = below[below["anchor"].isna()].set_index("number")
    front = next(peel({n: (row["top1_percent"], row["latency_ms"]) for n, row in searched.iterrows()}))
    complete = above[(above["state"] == "COMPLETE") & above["anchor"].isna()]
    assert set(complete["promoted_from"].astype(int)) & set(front)


def test_an_interrupted_fidelity_goes_on_where_it_was(tmp_path):
    def interrupt(candidate):
        if candidate.anchor is None:
            raise KeyboardInterrupt

    assert climb(tmp_path, full(), FakeEvaluator(interrupt)).why == "interrupted"
    evaluator = FakeEvaluator()
    assert climb(tmp_path, full(), evaluator).why == "complete"
    below, above = tables(tmp_path)
    assert len(evaluator.asked) == 3, "the anchors were there"
    complete = above[above["state"] == "COMPLETE"]
    assert complete["promoted_from"].notna().all()
    assert complete["architecture"].is_unique
    assert len(below) == 14


def test_who_is_among_the_best_after_more_proxies_comes_as_well_and_nobody_is_sent_back(tmp_path):
    climb(tmp_path, full(), FakeEvaluator())
    before = set(tables(tmp_path)[1]["architecture"])
    more = replace(PROXY, trials=40)
    climb(tmp_path, full(), FakeEvaluator(), proxy=more)
    below, above = tables(tmp_path)
    assert before <= set(above["architecture"])
    assert len(below) == 42
    assert above["architecture"].is_unique
    searched = below[below["anchor"].isna()].set_index("number")
    front = next(peel({n: (row["top1_percent"], row["latency_ms"]) for n, row in searched.iterrows()}))
    promoted = set(above["promoted_from"].astype(int))
    assert len(promoted & set(front)) >= min(3, len(front))


def test_training_begins_with_the_weights_below_where_the_study_says_so(tmp_path):
    def save(candidate, *, seed, weights, part):
        weights.write_text(candidate.key)
        yield from ()
        return measure(candidate)

    starts = []

    def look(candidate, *, seed, weights, part):
        starts.append(part.start.read_text() if part.start else None)
        yield from ()
        return measure(candidate)

    keeping = replace(PROXY, keep_weights="all")
    climb(tmp_path, full(start="weights"), look, proxy=keeping, first=save)
    assert len(starts) == 5
    assert all(starts)


@pytest.mark.parametrize("count", [0, 100])
def test_none_or_all_may_be_promoted(tmp_path, count):
    ended = climb(tmp_path, full(best=count), FakeEvaluator())
    assert ended.why == "complete"
    assert len(tables(tmp_path)[1]) == 2 + min(count, 12)


def test_infeasible_candidates_are_not_promoted(tmp_path):
    from starsearch.objective import Constraint

    strict = replace(PROXY, constraints=(Constraint(name="latency_ms", high=4.0),))
    climb(tmp_path, replace(full(best=100), constraints=strict.constraints), FakeEvaluator(), proxy=strict)
    _, above = tables(tmp_path)
    searched = above[above["anchor"].isna()]
    assert len(searched) > 0
    assert np.all(searched["latency_ms"] <= 4.0)

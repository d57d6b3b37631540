"""What is measured after a trial has ended, and what it says of the predictions of others."""

from dataclasses import replace

import pytest

from starsearch.candidate import Candidate
from starsearch.families.family import Architecture, presets
from starsearch.families.text import architecture_hash
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Constraint, Objective
from starsearch.recipe import Recipe
from starsearch.records.record import StudyRecord, hold_lease
from starsearch.records.table import load_trials
from starsearch.trial import Trial
from tests.search.studies import make_spec, url_of

PREDICTED = Prediction(name="latency_ms@phone", value=2.0, low=1.8, high=2.2, device="A phone")
TOP1 = Measurement(name="top1_percent", value=70.0)
S1, S2 = (
    Candidate(architecture=presets()[name], recipe=Recipe(), anchor=name) for name in ("starnet_s1", "starnet_s2")
)


OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name="latency_ms@phone", direction="minimize", device="phone"),
)


@pytest.fixture
def record(tmp_path, request):
    bounds = getattr(request, "param", {"high": 2.5})
    spec = make_spec(objectives=OBJECTIVES, constraints=(Constraint(name="latency_ms@phone", **bounds),))
    record = StudyRecord.open(url_of(tmp_path), spec)
    yield record
    record.close()


def complete(record, candidate, **changes):
    readings = {"readings": (TOP1, PREDICTED), "seconds": 1.0, **changes}
    record.finish(replace(record.start(Trial(candidate=candidate)), state="complete", **readings))


def measured(value, name="latency_ms@phone"):
    return Measurement(name=name, value=value, runs=40, spread=0.01, device="this phone")


def test_what_is_measured_later_stands_in_for_the_prediction_and_the_trial_stays_as_it_was(tmp_path, record):
    complete(record, S1)
    complete(record, S2)
    before = record.trials()
    record.keep_measured(architecture_hash(S1.architecture), measured(2.5))
    first, second = load_trials(url_of(tmp_path)).to_dict("records")
    assert (first["latency_ms@phone"], first["latency_ms@phone_kind"]) == (2.5, "measured")
    assert (first["latency_ms@phone_predicted"], first["latency_ms@phone_error_percent"]) == (2.0, pytest.approx(-20))
    assert (first["latency_ms@phone_runs"], first["latency_ms@phone_spread"]) == (40, 0.01)
    assert first["latency_ms@phone_device"] == "this phone"
    # One measured network moves the others' predictions half as far, and widens their intervals until it is inside.
    assert (second["latency_ms@phone"], second["latency_ms@phone_kind"]) == (pytest.approx(2 * 1.25**0.5), "predicted")
    assert second["latency_ms@phone_predicted"] == 2.0
    assert second["latency_ms@phone_high"] == pytest.approx(2.5)
    assert record.trials() == before


def test_with_eight_measured_networks_each_sort_of_work_is_corrected(tmp_path, record):
    """The device is a half slower at one sort of work than its profile says, and as fast at the other."""
    for number in range(12):
        candidate = Candidate(architecture=Architecture.of(embed_dim=8 + 4 * number), recipe=Recipe())
        wide, deep = 1 + number % 3, 1 + number % 4
        parts = {"pointwise.work": float(wide), "depthwise.work": float(deep)}
        ms = wide + deep
        one = Prediction(
            name="latency_ms@phone", value=ms, low=0.95 * ms, high=1.05 * ms, device="A phone", parts=parts
        )
        complete(record, candidate, readings=(TOP1, one))
        if number < 8:
            record.keep_measured(architecture_hash(candidate.architecture), measured(1.5 * wide + deep))
    rows = load_trials(url_of(tmp_path)).iloc[8:]
    truth = [1.5 * (1 + number % 3) + 1 + number % 4 for number in range(8, 12)]
    assert rows["latency_ms@phone_kind"].tolist() == ["predicted"] * 4
    assert rows["latency_ms@phone"].tolist() == pytest.approx(truth, rel=0.03)  # one factor for all is 12 % off
    assert not [column for column in rows if column.endswith("_parts")]


def test_a_constraint_is_judged_by_the_corrected_prediction(tmp_path, record):
    complete(record, S1)  # predicted 2.0, half a millisecond below the bound
    complete(record, S2)
    record.keep_measured(architecture_hash(S1.architecture), measured(2.0 * 1.6))  # by half of it 2.0 is 2.53
    assert load_trials(url_of(tmp_path))["feasible"].tolist() == [False, False]


@pytest.mark.parametrize(
    ("record", "ms", "feasible"),
    [({"high": 2.5}, 2.4, True), ({"high": 2.5}, 2.5, True), ({"high": 2.5}, 2.6, False), ({"low": 1.5}, 1.4, False)],
    indirect=["record"],
)
def test_a_constraint_is_judged_by_the_measured_value(tmp_path, record, ms, feasible):
    complete(record, S1)  # predicted 2.0, half a millisecond within the bound
    record.keep_measured(architecture_hash(S1.architecture), measured(ms))
    assert load_trials(url_of(tmp_path))["feasible"].tolist() == [feasible]


def test_what_a_trial_measured_itself_is_never_replaced(tmp_path, record):
    complete(record, S1, readings=(TOP1, Measurement(name="latency_ms@phone", value=3.0)))
    record.keep_measured(architecture_hash(S1.architecture), measured(9.0))
    assert load_trials(url_of(tmp_path))["latency_ms@phone"].tolist() == [3.0]


def test_figures_of_a_device_that_no_trial_knows_are_columns_of_their_own(tmp_path, record):
    complete(record, S1)
    complete(record, S2)
    record.keep_measured(architecture_hash(S2.architecture), measured(7.0, "latency_ms@watch"))
    trials = load_trials(url_of(tmp_path))
    assert trials["latency_ms@watch"].isna().tolist() == [True, False]
    assert trials["latency_ms@watch_kind"].tolist() == [None, "measured"]


def test_a_study_is_found_to_keep_what_was_measured_of_it_under_its_lease(tmp_path, record):
    complete(record, S1)
    study = StudyRecord.find(url_of(tmp_path), "small")
    assert study.spec == record.spec
    with hold_lease(study):
        study.keep_measured("abc", measured(1.0))
    assert dict(study.measured()) == {("abc", "latency_ms@phone"): measured(1.0)}
    study.close()

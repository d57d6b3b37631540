"""A study's record: what is written, and the table that comes of it."""

import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from starsearch.candidate import Candidate
from starsearch.errors import StudyChangedError, StudyError
from starsearch.families.family import count_macs, count_params, presets
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.recipe import Fidelity, Recipe
from starsearch.records.record import StudyRecord, hold_lease
from starsearch.records.table import load_attributes, load_fidelities, load_study, load_trials
from starsearch.trial import Trial
from tests.search.studies import OBJECTIVES, make_spec, url_of

PARAMS = {"embed_dim": 24, "ops": "star", "kernel_size": 7}
S1 = presets()["starnet_s1"]
TRIAL = Trial(candidate=Candidate(architecture=S1, recipe=Recipe(), anchor="starnet_s1"), params=PARAMS)
READINGS = (
    Measurement(name="top1_percent", value=71.5),
    Measurement(name="latency_ms", value=4.25, runs=20, spread=0.03, device="one core"),
)


@pytest.fixture
def spec():
    return make_spec()


@pytest.fixture
def record(tmp_path, spec):
    record = StudyRecord.open(url_of(tmp_path), spec, conditions={"data": "none at all"})
    yield record
    record.close()


def complete(record, trial=TRIAL, **changes):
    ended = replace(record.start(trial), **{"state": "complete", "readings": READINGS, **changes})
    return record.finish(ended)


def test_a_trial_comes_back_as_it_was_and_as_the_row_that_the_reports_expect(tmp_path, record):
    candidate = replace(TRIAL.candidate, recipe=Recipe(lr=0.01, crop_scale=(0.2, 1.0)))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "trial-0.safetensors").touch()
    before = datetime.now(UTC)
    trial = record.start(replace(TRIAL, candidate=candidate, retry_of=7, seconds=9.5))  # begun so long ago
    record.report(trial, epoch=1, value=60.0)
    ended = replace(
        trial, curve={1: 60.0}, state="complete", readings=READINGS, noted={"generation": 2},
        weights="weights/trial-0.safetensors",
    )  # fmt: skip
    assert record.finish(ended) == ended
    (read,) = record.trials()
    took = timedelta(seconds=9.5), datetime.now(UTC) - before + timedelta(seconds=9.5)
    assert before <= read.started + timedelta(seconds=9.5) <= datetime.now(UTC)
    assert took[0] <= timedelta(seconds=read.seconds) <= took[1]
    assert replace(read, started=None, seconds=9.5) == ended

    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))  # as other programs read it
    (found,) = study.trials
    assert (found.values, found.intermediate_values, found.params) == ([71.5, 4.25], {1: 60.0}, PARAMS)
    assert study.metric_names == ["top1_percent", "latency_ms"]
    assert dict(found.constraints) == {"latency_ms.max": -3.75}
    assert found.user_attrs["readings"][1] == {
        "kind": "measured", "name": "latency_ms", "value": 4.25, "runs": 20, "spread": 0.03, "device": "one core",
    }  # fmt: skip
    (row,) = load_trials(url_of(tmp_path)).to_dict("records")
    assert row.pop("started") == read.started
    assert row == {
        "number": 0,
        "state": "COMPLETE",
        "fidelity": "proxy",
        "anchor": "starnet_s1",
        "architecture": architecture_hash(S1),
        "architecture_text": format_architecture(S1),
        "top1_percent": 71.5,
        "latency_ms": 4.25,
        "latency_ms_spread": 0.03,
        "latency_ms_runs": 20.0,
        "latency_ms_device": "one core",
        "published_macs": count_macs(S1, resolution=224),
        "published_num_params": count_params(S1),
        "feasible": True,
        "excess_latency_ms.max": -3.75,
        "reason": None,
        "data": "none",
        "seed": 0,
        "seconds": read.seconds,
        "weights": "weights/trial-0.safetensors",
        "retry_of": 7,
        "params_embed_dim": 24,
        "params_ops": "star",
        "params_kernel_size": 7,
        "recipe": '{"crop_scale": [0.2, 1.0], "lr": 0.01}',
    }
    (tmp_path / "weights" / "trial-0.safetensors").unlink()
    assert load_trials(url_of(tmp_path))["weights"].tolist() == [None]


def test_failed_stopped_running_and_infeasible_trials_stand_in_the_table_too(tmp_path, record):
    record.finish(replace(record.start(TRIAL), state="fail", reason="out of luck"))
    record.start(TRIAL)
    slow = replace(READINGS[1], value=8.25)
    complete(record, replace(TRIAL, candidate=replace(TRIAL.candidate, anchor=None)), readings=(READINGS[0], slow))
    complete(record, state="pruned", rung=0, epochs=3)
    record.start(replace(TRIAL, continues=3, promoted_from=5))
    trials = load_trials(url_of(tmp_path), "small")
    assert trials["state"].tolist() == ["FAIL", "RUNNING", "COMPLETE", "PRUNED", "RUNNING"]
    assert trials["reason"].tolist() == ["out of luck", None, None, None, None]
    assert trials["feasible"].tolist() == [False] * 5
    assert trials["top1_percent"].isna().tolist() == [True, True, False, False, True]
    assert trials["anchor"].tolist()[1:3] == ["starnet_s1", None]
    assert isinstance(trials["started"].dtype, pd.DatetimeTZDtype)
    assert trials["rung"].tolist()[3] == 0
    assert (trials["continues"].tolist()[4], trials["promoted_from"].tolist()[4]) == (3, 5)
    assert str(trials["epochs"].dtype) == "Int64"
    assert record.trials()[3].rung == 0


def test_a_study_without_trials_is_a_table_without_rows(tmp_path, record):
    trials = load_trials(url_of(tmp_path))
    assert len(trials) == 0
    assert {"number", "state", "architecture", "feasible", "reason", "started", "seconds", "recipe"} <= set(trials)


def test_trials_of_other_programs_are_counted_and_left_as_they_are(tmp_path, record):
    complete(record)
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    study.enqueue_trial(PARAMS)
    study.add_trial(optuna.trial.create_trial(values=[99.0, 0.1], user_attrs={"architecture": "x"}))
    record.start(TRIAL)
    study.tell(3, [99.0, 0.1])
    assert [trial.number for trial in record.trials()] == [0]
    assert record.fail_running("gone") == []
    trials = load_trials(url_of(tmp_path))
    assert trials["state"].tolist() == ["COMPLETE", "FOREIGN", "FOREIGN", "FOREIGN"]
    assert trials["top1_percent"].isna().tolist() == [False, True, True, True]
    assert trials["feasible"].tolist() == [True, False, False, False]


def test_what_a_dead_driver_left_running_ends_as_lost(record):
    trial = record.start(TRIAL)
    record.report(trial, epoch=1, value=50.0)
    record._storage.set_trial_user_attr(1, "readings", [])  # it died while it wrote the trial's end
    (lost,) = record.fail_running("The driver died.")
    assert (lost.number, lost.state, lost.lost, lost.reason) == (0, "fail", True, "The driver died.")
    (read,) = record.trials()
    assert (read.lost, read.reason, read.curve, read.readings) == (True, "The driver died.", {1: 50.0}, ())


def test_a_trial_that_another_program_ends_is_left_to_it(tmp_path, record):
    trial = record.start(TRIAL)
    optuna.load_study(study_name="small", storage=url_of(tmp_path)).tell(0, state=TrialState.FAIL)
    record.report(trial, epoch=1, value=60.0)
    ended = record.finish(replace(trial, state="complete", readings=READINGS))
    assert (ended.state, ended.reason) == ("fail", "Another program has ended the trial.")
    assert record.trials()[0].state == "fail"


def test_a_trial_begins_and_ends_by_one_clock_in_every_time_zone(tmp_path, record, monkeypatch):
    for zone in ("America/New_York", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        complete(record)
    monkeypatch.undo()
    time.tzset()
    study = optuna.load_study(study_name="small", storage=url_of(tmp_path))
    assert all(0 <= trial.duration.total_seconds() < 60 for trial in study.trials)


def test_a_study_with_finished_trials_refuses_other_conditions_line_by_line(tmp_path, spec, record):
    complete(record)
    changed = replace(spec, recipe=replace(spec.recipe, lr=0.5), objectives=OBJECTIVES[:1], seed=3)
    with pytest.raises(StudyChangedError) as caught:
        StudyRecord.open(url_of(tmp_path), changed, conditions={"data": "some", "device": "here"})
    for line in (
        "recipe.lr: was 0.002, now 0.5",
        "objectives.latency_ms: was minimize on a device, now not there",
        "seed: was 0, now 3",
        "data: was none at all, now some",
        "device: was not there, now here",
    ):
        assert f"  {line}\n" in str(caught.value)


def test_what_may_change_is_kept_anew(tmp_path, spec, record):
    complete(record)
    longer = replace(spec, trials=99, sampler="random", keep_weights="all")
    StudyRecord.open(url_of(tmp_path), longer, conditions={"data": "none at all"}).close()
    assert load_study(url_of(tmp_path)).spec == longer


def test_a_study_without_a_finished_trial_takes_any_change_unless_a_driver_works_on_it(tmp_path, spec, record):
    record.finish(replace(record.start(TRIAL), state="fail", reason="a slip of the pen"))
    changed = replace(spec, fidelity=Fidelity(epochs=9))
    with hold_lease(record), pytest.raises(StudyChangedError):
        StudyRecord.open(url_of(tmp_path), changed)
    with pytest.warns(UserWarning, match=r"begins anew \(fidelity.epochs: was none, now 9; data: was"):
        StudyRecord.open(url_of(tmp_path), changed).close()
    found = load_study(url_of(tmp_path))
    assert (found.spec, len(found.trials)) == (changed, 0)


def test_a_study_that_optuna_or_an_earlier_version_made_is_refused_in_words(tmp_path, spec):
    url = url_of(tmp_path)
    study = optuna.create_study(storage=url, study_name="small", directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    for attributes, words in (({}, "was not made by starsearch"), ({"signature": {}}, "was made by starsearch 0.1")):
        for key, value in attributes.items():
            study.set_user_attr(key, value)
        for read in (lambda: load_study(url), lambda: StudyRecord.find(url, "small")):
            with pytest.raises(StudyError, match=words):
                read()
        with pytest.raises(StudyError, match=words):
            StudyRecord.open(url, spec)


def test_a_study_whose_making_was_cut_off_is_made_to_the_end(tmp_path, spec):
    optuna.create_study(storage=url_of(tmp_path), study_name="small", directions=["maximize", "minimize"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StudyRecord.open(url_of(tmp_path), spec, attributes={"command": "starsearch run small"}).close()
    assert load_attributes(url_of(tmp_path), "small")["command"] == "starsearch run small"
    assert load_study(url_of(tmp_path)).spec == spec


def test_fidelities_are_read_together_and_an_unknown_study_is_refused_with_the_known_ones(tmp_path, spec, record):
    url, later = url_of(tmp_path), replace(spec, name="small.full")
    record.set_attribute("fidelities", ["small", "small.full", "small.last"])
    StudyRecord.open(url, later).close()
    assert [one.spec for one in load_fidelities(url, "small")] == [spec, later]
    with pytest.raises(StudyError, match=r"no study 'smal'. Did you mean 'small'\? It holds: small, small.full"):
        load_study(url, "smal")
    with pytest.raises(StudyError, match=r"holds 2 studies: small, small.full. Say which"):
        load_study(url)


def test_a_prediction_is_read_back_as_one_and_its_row_says_so(tmp_path, record):
    predicted = Prediction(name="latency_ms", value=4.0, low=3.5, high=4.4, device="a phone", parts={"conv": 4.0})
    complete(record, readings=(READINGS[0], predicted))
    assert record.trials()[0].readings[1] == predicted
    (row,) = load_trials(url_of(tmp_path)).to_dict("records")
    assert (row["latency_ms"], row["latency_ms_kind"], row["latency_ms_predicted"]) == (4.0, "predicted", 4.0)
    assert (row["latency_ms_low"], row["latency_ms_high"], row["latency_ms_device"]) == (3.5, 4.4, "a phone")

import time
from dataclasses import replace
from datetime import UTC, datetime

import optuna
import pandas as pd
import pytest
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from starsearch.candidate import Candidate
from starsearch.errors import StudyChangedError, StudyError
from starsearch.families.family import presets
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.measurement import Measurement
from starsearch.recipe import Recipe
from starsearch.records import (
    StudyRecord,
    hold_lease,
    load_attributes,
    load_objectives,
    load_trials,
    study_names,
)
from starsearch.trial import Trial
from tests.search.studies import OBJECTIVES, make_spec, url_of

PARAMS = {"embed_dim": 24, "ops": "star", "kernel_size": 7}
S1 = Candidate(architecture=presets()["starnet_s1"], recipe=Recipe(), anchor="starnet_s1")
MEASURED = (
    Measurement(name="top1_percent", value=71.5),
    Measurement(name="latency_ms", value=4.25, runs=20, spread=0.03, device="one core"),
)


@pytest.fixture
def spec():
    return make_spec()


@pytest.fixture
def record(tmp_path, spec):
    record = StudyRecord.open(url_of(tmp_path), spec, signature={"seed": "0"})
    yield record
    record.close()


def start(record, candidate=S1, **fields):
    return record.start(Trial(candidate=candidate, params=PARAMS, **fields))


def complete(record, trial, **changes):
    return record.finish(replace(trial, **{"state": "complete", "readings": MEASURED, "seconds": 9.5, **changes}))


def fail(record, trial, reason, **changes):
    return record.finish(replace(trial, state="fail", reason=reason, **changes))


def test_a_trial_comes_back_as_the_row_that_the_reports_expect(tmp_path, record):
    candidate = replace(S1, recipe=Recipe(lr=0.01, crop_scale=(0.2, 1.0)))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "trial-0.safetensors").touch()
    before = datetime.now(UTC)
    started = start(record, candidate)
    record.report(started, epoch=1, value=60.0)
    complete(record, started, weights="weights/trial-0.safetensors")
    after = datetime.now(UTC)

    (row,) = load_trials(url_of(tmp_path)).to_dict("records")
    assert before <= row.pop("started") <= after
    assert row == {
        "number": 0,
        "state": "COMPLETE",
        "fidelity": "proxy",
        "anchor": "starnet_s1",
        "architecture": architecture_hash(S1.architecture),
        "architecture_text": format_architecture(S1.architecture),
        "top1_percent": 71.5,
        "latency_ms": 4.25,
        "latency_ms_spread": 0.03,
        "latency_ms_runs": 20.0,
        "latency_ms_device": "one core",
        "feasible": True,
        "excess_latency_ms.max": -3.75,
        "reason": None,
        "data": "none",
        "seed": 0,
        "seconds": 9.5,
        "weights": "weights/trial-0.safetensors",
        "params_embed_dim": 24,
        "params_ops": "star",
        "params_kernel_size": 7,
        "recipe": '{"crop_scale": [0.2, 1.0], "lr": 0.01}',
    }
    (trial,) = record.trials()
    assert trial.candidate == candidate
    assert (trial.readings, trial.curve, trial.state, trial.seconds) == (MEASURED, {1: 60.0}, "complete", 9.5)

    (tmp_path / "weights" / "trial-0.safetensors").unlink()
    assert load_trials(url_of(tmp_path))["weights"].tolist() == [None]


def test_failed_running_and_infeasible_trials_stand_in_the_table_too(tmp_path, record):
    fail(record, start(record), "out of luck", seconds=2.0)
    start(record)
    slow = (MEASURED[0], replace(MEASURED[1], value=8.25))
    complete(record, start(record, replace(S1, anchor=None)), readings=slow)
    trials = load_trials(url_of(tmp_path), "small")
    assert trials["state"].tolist() == ["FAIL", "RUNNING", "COMPLETE"]
    assert trials["reason"].tolist() == ["out of luck", None, None]
    assert trials["feasible"].tolist() == [False, False, False]
    assert trials["top1_percent"].isna().tolist() == [True, True, False]
    assert trials["anchor"].tolist() == ["starnet_s1", "starnet_s1", None]
    assert isinstance(trials["started"].dtype, pd.DatetimeTZDtype)


def test_a_study_without_trials_is_a_table_without_rows(tmp_path, record):
    trials = load_trials(url_of(tmp_path))
    assert len(trials) == 0
    assert {"number", "state", "architecture", "feasible", "reason", "started", "seconds", "recipe"} <= set(trials)


def test_the_own_transactions_write_what_optunas_public_calls_write(tmp_path, record, spec):
    started = start(record, retry_of=7)
    record.report(started, epoch=1, value=60.0)
    complete(record, started, noted={"generation": 3})
    (ours,) = record.frozen_trials()

    study = optuna.create_study(storage=url_of(tmp_path), directions=["maximize", "minimize"], study_name="public")
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            values=[71.5, 4.25],
            params=PARAMS,
            distributions=ours.distributions,
            user_attrs=ours.user_attrs,
            system_attrs={"generation": 3},
            constraints={"latency_ms.max": -3.75},
            intermediate_values={1: 60.0},
        )
    )
    (theirs,) = study.trials
    for name in ("number", "state", "values", "params", "distributions", "user_attrs", "intermediate_values"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.system_attrs == theirs.system_attrs
    assert ours.constraints == theirs.constraints == {"latency_ms.max": -3.75}
    assert ours.duration is not None


def test_numbers_count_on_and_belong_to_their_study(tmp_path, record):
    other = StudyRecord.open(url_of(tmp_path), make_spec(name="other"), signature={})
    assert [start(one).number for one in (record, other, record)] == [0, 0, 1]
    other.close()
    assert study_names(url_of(tmp_path)) == ("small", "other")


def test_a_trial_takes_two_transactions(record):
    commits = []
    sqlalchemy.event.listen(record._storage.engine, "commit", commits.append)
    complete(record, start(record))
    assert len(commits) == 2


def test_a_finished_trial_is_never_changed(record):
    started = start(record)
    (trial,) = record.frozen_trials()
    complete(record, started)
    record._trial_ids[started.number] = trial._trial_id
    told = fail(record, started, "changed my mind")
    assert (told.state, told.reason) == ("fail", "Another program has ended the trial.")
    assert record.trials()[0].state == "complete"


def test_a_trial_that_another_driver_ends_in_the_last_moment_is_left_to_it(tmp_path, record):
    started = start(record)
    (trial,) = record.frozen_trials()
    other = StudyRecord.open(url_of(tmp_path), make_spec(), signature={"seed": "0"})
    writes = []

    def end_before_the_first_write(_connection, _cursor, statement, *_):
        if not statement.startswith("SELECT") and not writes:
            writes.append(statement)
            other.fail_running("taken over")

    sqlalchemy.event.listen(record._storage.engine, "before_cursor_execute", end_before_the_first_write)
    assert complete(record, started).state == "fail"
    other.close()
    (left,) = record.frozen_trials()
    assert (left.state, left.values, left.user_attrs["reason"]) == (TrialState.FAIL, None, "taken over")
    assert left.user_attrs.keys() == {*trial.user_attrs, "reason", "interrupted"}
    assert left.system_attrs == {}


def test_a_trial_begins_and_ends_by_one_clock_in_every_time_zone(record, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        complete(record, start(record))
        assert 0 <= record.frozen_trials()[0].duration.total_seconds() < 600
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_another_signature_than_that_of_finished_trials_is_refused_line_by_line(tmp_path, spec):
    old = {"space.dimensions.embed_dim": "16..48 step 4", "data": "digits", "gone": "1"}
    new = {"space.dimensions.embed_dim": "16..64 step 4", "data": "digits", "came": "2"}
    record = StudyRecord.open(url_of(tmp_path), spec, signature=old)
    complete(record, start(record))
    record.close()
    with pytest.raises(StudyChangedError) as raised:
        StudyRecord.open(url_of(tmp_path), spec, signature=new)
    lines = str(raised.value).splitlines()
    assert "  space.dimensions.embed_dim: was 16..48 step 4, now 16..64 step 4" in lines
    assert "  gone: was 1, now not there" in lines
    assert "  came: was not there, now 2" in lines
    assert not any("digits" in line for line in lines)
    StudyRecord.open(url_of(tmp_path), spec, signature=old).close()


def test_other_objectives_are_refused_even_under_the_same_signature(tmp_path, spec, record):
    complete(record, start(record))
    with pytest.raises(StudyChangedError, match="objectives"):
        StudyRecord.open(url_of(tmp_path), replace(spec, objectives=OBJECTIVES[:1]), signature={"seed": "0"})


def test_a_study_without_a_finished_trial_takes_any_change_unless_a_driver_is_at_work_on_it(tmp_path, spec, record):
    changed = replace(spec, objectives=OBJECTIVES[:1])
    fail(record, start(record), "the recipe cannot train")
    start(record)  # of a driver that was killed
    with hold_lease(record), pytest.raises(StudyChangedError, match="seed: was 0, now 1"):
        StudyRecord.open(url_of(tmp_path), changed, signature={"seed": "1"})
    with pytest.warns(UserWarning, match="begins anew .seed: was 0, now 1"):
        again = StudyRecord.open(url_of(tmp_path), changed, signature={"seed": "1"})
    assert not again.trials()
    assert again.attribute("signature") == {"seed": "1"}
    again.close()
    assert optuna.load_study(study_name="small", storage=url_of(tmp_path)).directions == [StudyDirection.MAXIMIZE]


def test_a_study_that_optuna_made_is_not_taken_over(tmp_path, spec):
    study = optuna.create_study(storage=url_of(tmp_path), study_name="small", directions=["maximize", "minimize"])
    study.add_trial(create_trial(values=[1.0, 2.0]))
    with pytest.raises(StudyError, match="starsearch has not made"):
        StudyRecord.open(url_of(tmp_path), spec, signature={})
    with pytest.raises(StudyError, match="not made by starsearch"):
        load_objectives(url_of(tmp_path))


def test_a_study_whose_making_was_cut_off_is_made_to_the_end(tmp_path, spec):
    optuna.create_study(storage=url_of(tmp_path), study_name="small", directions=["maximize", "minimize"])
    StudyRecord.open(url_of(tmp_path), spec, signature={"seed": "0"}).close()
    assert load_objectives(url_of(tmp_path)) == OBJECTIVES


def test_a_study_says_what_it_was_begun_with(tmp_path, spec):
    StudyRecord.open(url_of(tmp_path), spec, signature={"seed": "0"}, attributes={"classes": ["a", "b"]}).close()
    attributes = load_attributes(url_of(tmp_path), "small")
    assert attributes["signature"] == {"seed": "0"}
    assert attributes["classes"] == ["a", "b"]
    assert {"starsearch", "objectives", "data", "fidelity"} <= set(attributes)
    assert load_attributes(url_of(tmp_path), "other") == {}
    assert load_attributes(url_of(tmp_path / "nowhere"), "small") == {}


def test_an_unknown_study_is_refused_with_the_known_ones(tmp_path, record):
    with pytest.raises(StudyError, match=r"no study 'smal'. Did you mean 'small'\? It holds: small"):
        load_trials(url_of(tmp_path), "smal")
    StudyRecord.open(url_of(tmp_path), make_spec(name="other"), signature={}).close()
    with pytest.raises(StudyError, match="holds 2 studies: small, other"):
        load_trials(url_of(tmp_path))

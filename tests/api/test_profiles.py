"""A study about two devices: one profile is this machine's, so its predictions are measured; the other is a phone's."""

import csv
import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from starsearch.api.latency import import_measurements
from starsearch.api.run import run as run_study
from starsearch.errors import BackendError, SpecError, StudyChangedError, StudyError
from starsearch.latency.prediction.profile import save_profile
from starsearch.search.events import MemberMeasured, StudyEnded
from tests.api.conftest import TINY_SPACE
from tests.command_line import starsearch
from tests.profiles import make_profile, this_machine
from tests.search import test_front_measuring as predicting
from tests.search.studies import OBJECTIVES, make_spec
from tests.search.studies import run as run_fake

STUDY = """\
space: tiny.yaml
objectives:
  top1_percent: maximize
  latency_ms: {device: here.yaml}
  latency_ms@phone: minimize
constraints:
  latency_ms@phone: {max: 100}
fidelities: [{resolution: 32, epochs: 1, samples: 300, validation_samples: 200, recipe: digits}]
search: {trials: 2, sampler: random, seed: 1}
"""
STAYS_PREDICTED = r"latency_ms@phone is predicted from the profile 'phone'.*A phone.*Measure .*latency import"


def run(folder, watch=lambda event: None, **options):
    """Run devices.yaml in `folder`; the phone's profile is another device's, which is said."""
    with pytest.warns(UserWarning, match=STAYS_PREDICTED):
        return run_study(
            str(folder / "devices.yaml"), out=folder / "studies", view=lambda spec, path: nullcontext(watch), **options
        )


# Widths that are no multiples of four, of which the profiles have no term but padded.
UNALIGNED = TINY_SPACE.replace("embed_dim: [8, 16]", "embed_dim: [10, 14, 16]")


def write_files(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(UNALIGNED)
    (folder / "devices.yaml").write_text(STUDY)
    save_profile(make_profile("here", device=this_machine(), reference_ms=5.0), folder / "here.yaml")
    save_profile(make_profile("phone", ms=2.0), folder / "phone.yaml")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder in which devices.yaml was run to its end, and the events of the run."""
    folder, events = tmp_path_factory.mktemp("devices"), []
    write_files(folder)
    run(folder, events.append)
    return folder, events


@pytest.fixture
def copied(ran, tmp_path):
    """A copy of that folder, to be changed."""
    shutil.copytree(ran[0], tmp_path / "copy")
    return tmp_path / "copy"


def front_of(folder):
    return pd.read_csv(folder / "studies/devices/front.csv")


def test_this_machines_predictions_are_measured_on_the_front_and_the_phones_are_not(ran):
    folder, events = ran
    front = front_of(folder)
    assert set(front["latency_ms_kind"]) == {"measured"}
    assert set(front["latency_ms@phone_kind"]) == {"predicted"}
    assert (front["latency_ms_runs"] >= 6).all()
    assert front["latency_ms_error_percent"].to_numpy() == pytest.approx(
        100 * (front["latency_ms_predicted"] / front["latency_ms"] - 1)
    )
    assert (front["latency_ms@phone_low"] < front["latency_ms@phone"]).all()
    assert (front["latency_ms@phone"] < front["latency_ms@phone_high"]).all()
    # What is measured to be slower than it was predicted may leave the front.
    assert {e.trial.number for e in events if isinstance(e, MemberMeasured)} >= set(front["number"])
    assert isinstance(events[-1], StudyEnded)


def test_the_command_predicts_what_the_study_has_predicted(ran):
    folder, _ = ran
    front = front_of(folder)
    assert front["architecture_text"].str.contains("embed_dim=1[04]").any()
    trials = [f"studies/devices:{number}" for number in front["number"]]
    printed = starsearch("latency", "predict", "here.yaml", *trials, "--json", cwd=folder)
    assert [one["predicted_ms"] for one in json.loads(printed.stdout)] == front["latency_ms_predicted"].tolist()


def test_a_profile_that_was_changed_meanwhile_is_refused_in_words(copied):
    save_profile(make_profile("phone", ms=3.0), copied / "phone.yaml")
    with pytest.raises(StudyChangedError, match=r"profiles.latency_ms@phone: was phone \(.*, now phone \("):
        run_study(str(copied / "devices.yaml"), out=copied / "studies")


def test_the_phones_own_figures_stand_in_for_its_predictions(copied):
    study, file = copied / "studies/devices", copied / "phone-app.csv"
    before = front_of(copied)
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerows([("architecture", "ms"), ("starnet_s4", 99.0)])
        writer.writerows((text, 0.5 + i) for i, text in enumerate(before["architecture_text"]))
    found = import_measurements(str(study), file, device="phone")
    assert (found.name, found.networks) == ("latency_ms@phone", len(before))
    assert len(found.passed_over) == 1
    assert {path.name for path in found.files} >= {"trials.csv", "front.csv", "front.png", "report.html"}
    after = front_of(copied).set_index("number")
    shown = [number for number in before["number"] if number in after.index]
    assert set(after.loc[shown, "latency_ms@phone_kind"]) == {"measured"}
    assert after.loc[before["number"][0], "latency_ms@phone"] == 0.5


def test_figures_that_do_not_fit_the_study_are_refused(copied):
    file = copied / "app.csv"
    file.write_text("architecture,ms\nstarnet_s4,9.0\n")
    with pytest.raises(StudyError, match="None of the 1 architectures"):
        import_measurements(str(copied / "studies/devices"), file, device="phone")
    with pytest.raises(SpecError, match="letters, digits"):
        import_measurements(str(copied / "studies/devices"), file, device="my phone")


def test_figures_for_a_constraint_are_named_by_its_profile_and_shown(tmp_path):
    spec = predicting.spec_of(
        objectives=predicting.OBJECTIVES[:1], profiles={predicting.NAME: make_profile("iphone")}, trials=2
    )
    run_fake(tmp_path, spec, predicting.evaluate)
    file = tmp_path / "app.csv"
    file.write_text("architecture,ms\nstarnet_s1,4.5\nstarnet_s2,9.0\n")
    assert import_measurements(str(tmp_path), file, device="iphone").name == predicting.NAME
    front = pd.read_csv(tmp_path / "front.csv").set_index("anchor")
    assert front.loc["starnet_s1", predicting.NAME] == 4.5
    assert front.loc["starnet_s1", f"{predicting.NAME}_kind"] == "measured"
    assert not front.loc["starnet_s2", "feasible"]
    for shown in (
        starsearch("front", str(tmp_path), cwd=tmp_path).stdout,
        (tmp_path / "report.html").read_text(),
    ):
        assert "Latency @phone" in shown
        assert "4.50" in shown


def test_a_layer_without_a_term_is_a_failed_trial_with_the_reason(tmp_path):
    write_files(tmp_path)
    save_profile(make_profile("phone", leave_out="star"), tmp_path / "phone.yaml")
    (tmp_path / "tiny.yaml").write_text(UNALIGNED.replace("ops: {each: [star, sum]}", "ops: star"))
    # The anchor and every candidate hold stars: none is trained.
    with (
        pytest.warns(UserWarning, match=STAYS_PREDICTED),
        pytest.raises(StudyError, match=r"candidates in a row.*star"),
    ):
        run_study(str(tmp_path / "devices.yaml"), out=tmp_path / "studies", trials=30)


def test_figures_cannot_stand_in_for_what_the_trials_measure(tmp_path):
    objectives = tuple(replace(one, device="this-machine") if one.device else one for one in OBJECTIVES)
    run_fake(tmp_path, make_spec(objectives=objectives, trials=1))
    file = tmp_path / "app.csv"
    file.write_text("architecture,ms\nstarnet_s1,9.0\n")
    with pytest.raises(StudyError, match="measured on this machine in every trial"):
        import_measurements(str(tmp_path), file, device="this-machine")
    assert import_measurements(str(tmp_path), file, device="watch").name == "latency_ms@watch"
    assert pd.read_csv(tmp_path / "trials.csv")["latency_ms@watch"].dropna().tolist() == [9.0]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can tell")
def test_a_quantity_this_machine_cannot_find_out_is_refused_before_anything_is_evaluated(tmp_path):
    write_files(tmp_path)
    text = STUDY.replace("latency_ms@phone: {max: 100}", "coreml_cpu_percent: {max: 0}")
    (tmp_path / "devices.yaml").write_text(text)
    with pytest.raises(BackendError, match="coreml_cpu_percent is Core ML's own estimate, on a Mac"):
        run_study(str(tmp_path / "devices.yaml"), out=tmp_path / "studies")
    assert not (tmp_path / "studies").exists()

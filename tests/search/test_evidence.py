"""What another study is worth to a new one, and which it is not."""

from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest

from starsearch.candidate import Candidate
from starsearch.errors import StudyError
from starsearch.families.family import presets
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.progress import Progress
from starsearch.recipe import Fidelity
from starsearch.records.record import StudyRecord
from starsearch.records.table import load_attributes
from starsearch.search.driver import run_study
from starsearch.search.evidence import (
    evidence_on,
    is_evidence,
    keep_evidence,
    kept_evidence,
    observations,
    read_evidence,
    task_of,
)
from starsearch.search.executor import LocalExecutor
from starsearch.study.spec import Halving, Rung
from starsearch.trial import Trial
from tests.search.studies import TWELVE, FakeEvaluator, make_spec, measure, opened, run, url_of

DATA = "none: 10 classes, 100 training and 50 validation images (abc)"


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The URL of a study of all its twelve networks."""
    url, spec = url_of(tmp_path_factory.mktemp("old")), make_spec(name="old", trials=11)
    with closing(StudyRecord.open(url, spec, conditions={"data": DATA})) as record:
        run_study(spec, record, LocalExecutor(FakeEvaluator()))
    return url


def test_results_of_an_edited_space_are_of_the_same_task_and_the_difference_is_said(old):
    spec = make_spec(TWELVE.replace("[5, 7]", "[7, 9]"))
    found, lines = read_evidence(old, "old", spec, data=DATA)
    assert len(found) == 12
    assert {one.task for one in found} == {"none/proxy"}
    assert {one.source for one in found} == {"old"}
    assert lines[0] == "Evidence from old: 12 results."
    assert lines[1:] == [
        "  Of another space, 6 of its networks outside this one: space.dimensions.kernel_size: was 5, 7, now 7, 9."
    ]


def test_an_accuracy_of_another_kind_is_a_task_of_its_own(old):
    found, _ = read_evidence(old, "old", make_spec(), data=DATA)
    assert evidence_on("top1_percent", found) == found
    assert {one.task for one in evidence_on("top5_percent", found)} == {"top1_percent of none/proxy"}


def test_a_rung_of_other_images_is_a_task_of_its_own():
    rungs = (Rung(epochs=1, samples=200, resolution=16), Rung(epochs=2))
    spec = make_spec(halving=Halving(eta=3, rungs=rungs))
    tasks = [task_of(spec, epochs=one.epochs) for one in rungs]
    assert tasks == ["none/proxy@1 of 200 images at 16 px", "none/proxy@2"]


def test_what_was_trained_by_a_recipe_or_at_a_resolution_of_its_own_says_nothing_of_its_network():
    spec = make_spec()
    reading = Measurement(name="top1_percent", value=60.0)
    candidate = Candidate(architecture=presets()["starnet_s1"], recipe=spec.recipe)
    others = [replace(candidate, resolution=48), replace(candidate, recipe=replace(spec.recipe, lr=0.1))]
    trials = [Trial(candidate=one, state="complete", readings=(reading,)) for one in (candidate, *others)]
    assert [one.architecture for one in observations(spec, trials)] == [candidate.architecture]
    assert not any(map(partial(is_evidence, spec=spec), trials[1:]))


def test_results_of_another_fidelity_are_a_task_of_their_own(old):
    found, lines = read_evidence(old, "old", make_spec(fidelity=Fidelity(epochs=9)), data=DATA)
    assert {one.task for one in found} == {"old: none/proxy"}
    assert lines[1:] == ["  Trained otherwise, so a task of its own: fidelity.epochs: was none, now 9."]


def test_another_seed_is_another_task_where_it_draws_images_and_another_name_is_none(old, tmp_path):
    found, lines = read_evidence(old, "old", make_spec(seed=7, fidelity=Fidelity(name="cheap")), data=DATA)
    assert {one.task for one in found} == {"none/cheap"}
    assert lines[1:] == []
    some = Fidelity(samples=50)
    with closing(StudyRecord.open(url_of(tmp_path), make_spec(fidelity=some), conditions={"data": DATA})) as record:
        run_study(make_spec(fidelity=some), record, LocalExecutor(FakeEvaluator()))
    found, lines = read_evidence(url_of(tmp_path), "small", make_spec(seed=7, fidelity=some), data=DATA)
    assert {one.task for one in found} == {"small: none/proxy"}
    assert lines[1:] == ["  Trained otherwise, so a task of its own: seed: was 0, now 7."]


def test_what_no_accuracy_can_be_is_no_evidence():
    spec = make_spec(halving=Halving(eta=2, rungs=(Rung(epochs=1),)), fidelity=Fidelity(epochs=2))
    reading = Measurement(name="top1_percent", value=60.0, spread=float("inf"))
    candidate = Candidate(architecture=presets()["starnet_s1"], recipe=spec.recipe)
    trial = Trial(candidate=candidate, state="complete", readings=(reading,), curve={1: 1000.0, 2: 60.0})
    assert [(one.value, one.standard_error) for one in observations(spec, [trial])] == [(60.0, 0.0)]


def test_a_curve_is_that_of_the_first_accuracy(tmp_path):
    names = ("latency_ms", "top1_percent")
    goals = tuple(Objective(name=one, direction="maximize" if "top1" in one else "minimize") for one in names)
    spec = make_spec(objectives=goals, halving=Halving(eta=2, rungs=(Rung(epochs=1),)), fidelity=Fidelity(epochs=2))

    def train(candidate, *, seed, weights, part):
        top1, latency, macs = measure(candidate)
        for epoch in range(1, (part.until or 2) + 1):
            values = {"latency_ms": 1000.0, "top1_percent": top1.value - 10}
            yield Progress(fraction=epoch / 2, stage="training", epoch=epoch, values=values)
        return top1, latency, macs

    run(tmp_path, spec, train)
    with opened(tmp_path, spec) as record:
        found = observations(spec, record.trials())
    assert {one.task for one in found} == {"none/proxy", "none/proxy@1"}
    assert max(one.value for one in found) < 100


def test_a_study_keeps_what_it_was_told_of_another(old, tmp_path):
    found, _ = read_evidence(old, "old", make_spec(), data=DATA)
    url = url_of(tmp_path)
    for told in (found, found[:5]):  # told anew
        with closing(StudyRecord.open(url, make_spec())) as record:
            keep_evidence(record, told)
        assert kept_evidence(load_attributes(url, "small")) == told
    assert kept_evidence({}) == []


def test_a_study_of_other_data_is_refused_with_both(old):
    other = DATA.replace("10 classes", "100 classes")
    with pytest.raises(StudyError, match=r"old was run on none: 10 classes.*; this study has none: 100 classes"):
        read_evidence(old, "old", make_spec(), data=other)

"""What another study is worth to a new one, and which it is not."""

from contextlib import closing

import pytest

from starsearch.errors import StudyError
from starsearch.recipe import Fidelity
from starsearch.records.record import StudyRecord
from starsearch.records.table import load_attributes
from starsearch.search.driver import run_study
from starsearch.search.evidence import keep_evidence, kept_evidence, read_evidence
from starsearch.search.executor import LocalExecutor
from tests.search.studies import TWELVE, FakeEvaluator, make_spec, url_of

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


def test_results_of_another_fidelity_are_a_task_of_their_own(old):
    found, lines = read_evidence(old, "old", make_spec(fidelity=Fidelity(epochs=9)), data=DATA)
    assert {one.task for one in found} == {"old: none/proxy"}
    assert lines[1:] == ["  Trained otherwise, so a task of its own: fidelity.epochs: was none, now 9."]


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

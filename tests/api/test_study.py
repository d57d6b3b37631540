"""A study that has been run, opened in Python."""

import pytest
from optuna.storages import RDBStorage

from starsearch.api.study import load_study, open_view, study_status, write_study_report
from starsearch.api.study_folder import place_of
from starsearch.errors import StudyError
from tests.search.studies import FakeEvaluator, make_spec, run


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, make_spec())
    return tmp_path


def test_a_study_has_its_trials_its_front_the_best_and_a_plot(folder):
    study = load_study(folder)
    assert set(study.front()["number"]) <= set(study.trials["number"])
    assert study.best()["number"] == study.summary()["knee"]
    assert "published" in {trace.name for trace in study.plot().data}
    with pytest.raises(StudyError, match="no trial 99"):
        study.export(folder / "out", trial=99)


def test_without_a_result_there_is_nothing_best_to_plot(tmp_path):
    def fail(candidate):
        raise ValueError("no good")

    run(tmp_path, make_spec(trials=2), FakeEvaluator(fail))
    for ask in (load_study(tmp_path).best, load_study(tmp_path).plot):
        with pytest.raises(StudyError, match="no front yet"):
            ask()


def test_what_is_no_study_is_said(tmp_path):
    for text, words in ((tmp_path / "nowhere", "no study folder"), (tmp_path, "holds no study")):
        with pytest.raises(StudyError, match=words):
            load_study(text)


def test_table_page_and_status_open_the_storage_once_each(folder, monkeypatch):
    opened, init = [], RDBStorage.__init__

    def counted(storage, *arguments, **options):
        opened.append(arguments)
        init(storage, *arguments, **options)

    monkeypatch.setattr(RDBStorage, "__init__", counted)
    place = place_of(str(folder))
    opened.clear()
    open_view(place)
    assert len(opened) == 1
    write_study_report(place)
    assert len(opened) == 2
    assert study_status(str(folder))["complete"] == 7

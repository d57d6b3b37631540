"""A journal file that power cuts and full disks have left; plain Optuna judges what became of it."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from starsearch.errors import StudyError
from starsearch.records.table import load_trials
from tests.search.studies import make_spec, run

HALF = b'{"op_code":8,"worker_id":"01","trial_id":1,"user_at'


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    file = tmp_path_factory.mktemp("finished") / "study.log"
    go_on(file, trials=3)
    return file.read_bytes()


@pytest.fixture
def journal(finished, tmp_path):
    """The file of a study of three searched trials and an anchor."""
    file = tmp_path / "study.log"
    file.write_bytes(finished)
    return file


def go_on(file, *, trials):
    run(f"journal:///{file}", make_spec(trials=trials))


def states(file):
    study = optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(file))))
    return [trial.state.name for trial in study.trials]


@pytest.mark.parametrize("torn", [HALF, bytes(9)])
def test_a_torn_last_line_is_moved_aside_before_the_study_goes_on(journal, torn):
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    assert len(load_trials(f"journal:///{journal}")) == 4
    assert journal.read_bytes() == whole + torn, "reading changes nothing"
    with pytest.warns(
        UserWarning, match=rf"ended in half a record.*moved to .*study.log.torn-{len(whole)}; everything before"
    ):
        go_on(journal, trials=5)
    assert journal.with_name(f"study.log.torn-{len(whole)}").read_bytes() == torn
    assert journal.read_bytes().startswith(whole)
    assert states(journal) == ["COMPLETE"] * 6


def test_a_damaged_line_is_refused(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = bytes(20) + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match=r"a record in it is damaged. Restore a copy"):
        go_on(journal, trials=5)

"""A journal file that power cuts, full disks and dead processes have left; plain Optuna judges what became of it."""

import os
import subprocess

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


@pytest.mark.parametrize("torn", [HALF, bytes(9), HALF + HALF + b"\n"])
def test_a_torn_last_line_is_moved_aside_before_the_study_goes_on(journal, torn):
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    assert len(load_trials(f"journal:///{journal}")) == 4
    assert journal.read_bytes() == whole + torn, "reading changes nothing"
    with pytest.warns(UserWarning, match=r"ended in half a record.*moved to .*study.log.torn-1; everything before"):
        go_on(journal, trials=5)
    assert journal.with_name("study.log.torn-1").read_bytes() == torn
    assert journal.read_bytes().startswith(whole)
    assert states(journal) == ["COMPLETE"] * 6


def test_a_whole_record_that_lacks_its_line_end_is_kept(journal):
    whole = journal.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    journal.write_bytes(whole + last[:-1])
    go_on(journal, trials=5)
    assert journal.read_bytes().startswith(whole + last)
    assert states(journal) == ["COMPLETE"] * 6


def test_what_was_appended_behind_a_torn_line_is_refused_with_the_command_that_repairs_it(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[-3] = HALF + lines[-3]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match=f"in its line {len(lines) - 2} a record was appended behind half of") as told:
        go_on(journal, trials=5)
    command = next(line for line in str(told.value).splitlines() if "sed" in line)
    subprocess.run(command, shell=True, check=True, timeout=60)
    go_on(journal, trials=5)
    assert states(journal) == ["COMPLETE"] * 6


def test_a_line_damaged_otherwise_is_named(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = bytes(20) + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(StudyError, match=r"its line 5 is damaged. Restore a copy"):
        go_on(journal, trials=5)


def test_a_lock_that_a_dead_process_left_is_not_waited_for(journal):
    lock = journal.with_name("study.log.lock")
    lock.symlink_to("studies/elsewhere/study.log")  # as of a process that named its journal by a relative path
    os.utime(lock, (0, 0), follow_symlinks=False)
    go_on(journal, trials=5)
    assert states(journal) == ["COMPLETE"] * 6
    assert not lock.is_symlink()

import os
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest

from starsearch.errors import StudyError
from starsearch.records import storage
from starsearch.records.record import DRIVER_DIED, StudyRecord
from starsearch.records.storage import close_storage, open_storage
from starsearch.records.table import load_trials
from tests.search.studies import FakeEvaluator, make_spec, run, url_of

NOBODY = 65534


def test_sqlite_writes_ahead(tmp_path):
    storage = open_storage(url_of(tmp_path))
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL
    close_storage(storage)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("study.db", "A storage is written as sqlite:///FILE"),
        ("sqlite:////nowhere/at/all/study.db", "there is no folder /nowhere/at/all"),
        ("oracle9://u:secret@host/db", "Unknown kind of storage 'oracle9'"),
        ("journal://study.log", "A journal is written with its whole path, as journal:///shared"),
        (
            "journal:///nowhere/study.log",
            f"or as {Path.cwd()}/nowhere/study.log. Write the one that is meant: journal:",
        ),
        ("journal:///study.log", "can be read as /study.log, which is not there, or as "),
        ("journal:////nowhere/study.log", "there is no folder /nowhere"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_in_words(url, words):
    with pytest.raises(StudyError) as raised:
        open_storage(url)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_missing_driver_is_named_with_how_to_install_it():
    # Of the drivers SQLAlchemy knows, one that is certainly not installed here.
    with pytest.raises(StudyError, match=r"needs pg8000, which is not installed.*psycopg\[binary\]") as raised:
        open_storage("postgresql+pg8000://me:secret@localhost/db")
    assert "secret" not in str(raised.value)


def test_reading_makes_no_file(tmp_path):
    with pytest.raises(StudyError, match=r"study.db does not exist"):
        load_trials(url_of(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_called_damaged(tmp_path):
    (tmp_path / "study.db").write_bytes(b"not a database at all, but long enough to be read as one. " * 100)
    with pytest.raises(StudyError, match="it is damaged"):
        load_trials(url_of(tmp_path))
    with pytest.raises(StudyError, match="it is damaged"):
        StudyRecord.open(url_of(tmp_path), make_spec())


def test_a_database_of_something_else_holds_no_study(tmp_path):
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("CREATE TABLE things (name)")
    connection.close()
    with pytest.raises(StudyError, match="it holds no study"):
        load_trials(url_of(tmp_path))


@pytest.fixture
def locking(tmp_path):
    """Another program's connection to the study's file."""
    run(tmp_path, make_spec(trials=1))
    connection = sqlite3.connect(tmp_path / "study.db", isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()


def test_a_database_that_is_locked_for_a_while_is_waited_for_and_nothing_is_lost(tmp_path, locking):
    def lock_for_a_while(candidate):
        if len(evaluator.asked) == 2:
            locking.execute("BEGIN EXCLUSIVE")
            threading.Timer(0.3, locking.execute, ["ROLLBACK"]).start()

    evaluator = FakeEvaluator(lock_for_a_while)
    assert run(tmp_path, make_spec(trials=6), evaluator).why == "complete"
    trials = load_trials(url_of(tmp_path))
    assert trials["state"].tolist() == ["COMPLETE"] * 7
    assert trials["architecture"].is_unique


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_database_that_stays_locked_ends_the_run_which_resumes_once_it_is_free(
    tmp_path, monkeypatch, locking, interrupt
):
    monkeypatch.setattr(storage, "_LOCKED_FOR_S", 0.1)

    def lock(candidate):
        if len(evaluator.asked) == 2:
            locking.execute("BEGIN EXCLUSIVE")
            if interrupt:
                raise KeyboardInterrupt

    evaluator = FakeEvaluator(lock)
    with pytest.raises(StudyError, match="another program keeps it locked"):
        run(tmp_path, make_spec(trials=6), evaluator)
    before = load_trials(url_of(tmp_path))
    assert before["state"].tolist() == ["COMPLETE"] * 3 + ["RUNNING"], "reading works meanwhile"
    locking.execute("ROLLBACK")
    again = FakeEvaluator()
    assert run(tmp_path, make_spec(trials=6), again).why == "complete"
    assert again.asked[0] == evaluator.asked[-1]
    after = load_trials(url_of(tmp_path))
    assert after["state"].tolist() == ["COMPLETE"] * 3 + ["INTERRUPTED"] + ["COMPLETE"] * 4
    assert after["reason"].dropna().tolist() == [DRIVER_DIED]
    columns = ["architecture", "top1_percent", "latency_ms"]
    assert after[:3][columns].equals(before[:3][columns])


@pytest.fixture
def read_only_folder():
    """A study in a folder that the test may only read; root, who may write everywhere, becomes somebody else."""
    folder = Path(tempfile.mkdtemp())
    run(folder, make_spec(trials=2))
    load_trials(url_of(folder))  # imports what somebody else might not be allowed to
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_study_in_a_read_only_folder_can_be_read_but_not_gone_on_with(read_only_folder):
    assert len(load_trials(url_of(read_only_folder))) == 3
    with pytest.raises(StudyError, match="it is read-only"):
        run(read_only_folder, make_spec(trials=5))
    assert len(load_trials(url_of(read_only_folder))) == 3

import socket
import sqlite3

import pytest

from starsearch.errors import StudyError
from starsearch.records import open_storage, patience
from starsearch.records.patience import Patience, connect_patiently, locked_for
from starsearch.records.storage import _for_sqlalchemy, close_storage, stop_waiting
from tests.search.studies import url_of


@pytest.fixture
def file(tmp_path):
    """A database with one table that writes no log ahead, as another program would make it."""
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("CREATE TABLE things (name)")
    connection.close()
    return tmp_path / "study.db"


@pytest.fixture
def locking(file):
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


def outwait(waiting, attempt):
    return waiting.outwait(attempt, is_away=lambda error: isinstance(error, ConnectionError), pause_s=0.0)


def always_away():
    raise ConnectionError


def test_waiting_counts_from_the_start_of_the_first_try_and_ends_at_the_limit():
    now = [0.0]

    def take_five_seconds():
        now[0] += 5.0
        raise ConnectionError

    with (
        pytest.warns(UserWarning, match=r"It is away\. Waiting up to 60 s for it") as told,
        pytest.raises(ConnectionError),
    ):
        outwait(Patience("It is away", limit_s=60.0, clock=lambda: now[0]), take_five_seconds)
    assert now == [60.0]
    assert len(told) == 1


def test_another_threads_success_in_between_does_not_disturb_who_waits():
    def reset_beside():
        waiting.reset()
        return 0.0

    waiting = Patience("It is away", limit_s=60.0, clock=reset_beside)
    with pytest.warns(UserWarning, match="Waiting"):
        assert waiting.may_wait(since=0.0)


def test_who_has_given_up_waits_no_more_until_the_storage_was_had():
    waiting = Patience("It is away", limit_s=60.0, clock=lambda: 0.0)
    waiting.give_up()
    with pytest.raises(ConnectionError):
        outwait(waiting, always_away)  # and no word of waiting: warnings are errors
    waiting.reset()
    with pytest.warns(UserWarning, match="Waiting"):
        assert waiting.may_wait(since=0.0)


def test_an_interrupt_while_waiting_is_raised_and_ends_the_patience():
    tries = []

    def interrupted_at_the_third():
        tries.append(1)
        raise KeyboardInterrupt if len(tries) == 3 else ConnectionError

    waiting = Patience("It is away", limit_s=60.0)
    with pytest.warns(UserWarning, match="Waiting"), pytest.raises(KeyboardInterrupt):
        outwait(waiting, interrupted_at_the_third)
    with pytest.raises(ConnectionError):
        outwait(waiting, always_away)


def test_a_lock_that_is_refused_at_once_is_asked_for_ten_times_a_second(file, monkeypatch, locking):
    monkeypatch.setattr(patience, "_TRY_S", 0.0)
    monkeypatch.setattr(patience, "_LOCKED_FOR_S", 0.35)
    tries = []
    connection = connect_patiently(file, locked_for(file))

    def begin():
        tries.append(1)
        sqlite3.Cursor(connection).execute("BEGIN IMMEDIATE")

    with pytest.warns(UserWarning, match="Waiting"), pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.outwait(begin)
    connection.close()
    assert 1 < len(tries) <= 5


def test_a_locked_database_without_a_write_ahead_log_is_waited_for_when_it_is_opened(file, monkeypatch, locking):
    monkeypatch.setattr(patience, "_TRY_S", 0.01)
    tries = []
    may_wait = Patience.may_wait

    def free_at_the_second(self, **began):
        tries.append(1)
        if len(tries) == 2:
            locking.execute("ROLLBACK")
        return may_wait(self, **began)

    monkeypatch.setattr(Patience, "may_wait", free_at_the_second)
    with pytest.warns(UserWarning, match="Waiting"):
        storage = open_storage(url_of(file.parent))
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    close_storage(storage)


def test_a_storage_without_patience_has_none_to_end(tmp_path):
    stop_waiting(open_storage(f"journal:///{tmp_path}/log"))


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("postgresql://me:pw@host/db", "postgresql+psycopg://me:pw@host/db?connect_timeout=5"),
        ("postgresql://host/db?connect_timeout=30", "postgresql+psycopg://host/db?connect_timeout=30"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg://host/db?connect_timeout=5"),
        ("postgresql+pg8000://host/db", "postgresql+pg8000://host/db"),
        ("mysql://host/db", "mysql://host/db"),
    ],
)
def test_connecting_with_psycopg_takes_five_seconds_at_most_unless_the_url_says_another_time(url, complete):
    assert _for_sqlalchemy(url) == complete


def test_a_server_that_answers_nothing_is_told_of():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts, and nobody reads
        url = f"postgresql://me:secret@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=2"
        with pytest.raises(StudyError, match="its server does not answer") as raised:
            open_storage(url)
    assert "secret" not in str(raised.value)

"""Connections that outwait a database which is locked, or a server that is being restarted.

Only what has not begun is tried again: the first statement of a transaction, or a connection. Nothing is written twice.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")

# One try; an interrupt is noticed between two, and ends the waiting after one more.
_TRY_S = 2.0
# Where SQLite refuses at once (BUSY_SNAPSHOT) and waits for nothing.
_PAUSE_S = 0.1
_LOCKED_FOR_S = 600.0
# Less than a lease still holds, which is renewed every 30 s of 120: no other host takes the study meanwhile.
_AWAY_FOR_S = 60.0
_CONNECT_EVERY_S = 1.0
_PRIMARY = 0xFF  # of SQLite's extended error codes


class Patience:
    """How long all connections to a storage, of all threads, have waited for it; the user is told once each time.

    Args:
        trouble: what the storage does meanwhile, as a sentence without its end.
        limit_s: seconds after which waiting is over; every later try fails at once, until one succeeds.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, trouble: str, *, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._trouble = trouble
        self._limit_s = limit_s
        self._clock = clock
        self._since: float | None = None
        self._is_over = False
        self._changing = threading.Lock()  # the lease's renewer waits beside the driver

    def outwait(self, attempt: Callable[[], T], *, is_away: Callable[[Exception], bool], pause_s: float) -> T:
        """What `attempt` returns once it raises nothing of which `is_away` says that the storage could not be had.

        An interrupt is for whoever waits: it ends the patience (`give_up`).
        """
        has_waited = False
        try:
            while True:
                began = self._clock()
                try:
                    done = attempt()
                except Exception as error:
                    if not is_away(error) or not self.may_wait(since=began):
                        raise
                    has_waited = True
                    time.sleep(pause_s)
                else:
                    if has_waited:
                        self.reset()
                    return done
        except KeyboardInterrupt:
            self.give_up()
            raise

    def may_wait(self, *, since: float) -> bool:
        """Note that the storage could not be had by a try that began at `since`; whether to try again."""
        with self._changing:
            if self._is_over:
                return False
            is_first = self._since is None
            began = since if self._since is None else self._since
            self._since = began
        if is_first:
            warnings.warn(f"{self._trouble}. Waiting up to {self._limit_s:g} s for it.", stacklevel=2)
        return self._clock() - began < self._limit_s

    def give_up(self) -> None:
        """Waiting is over, for every thread: each try fails at once until one succeeds."""
        with self._changing:
            self._is_over = True

    def reset(self) -> None:
        """The storage was had."""
        with self._changing:
            self._since = None
            self._is_over = False


class PatientConnection(sqlite3.Connection):
    """A connection to SQLite whose cursors wait before a transaction as long as its `patience` lasts.

    `execute` of the connection itself does not wait: CPython 3.11 takes a cursor for it that nobody can replace.
    """

    patience: Patience

    def cursor(self, factory: Any = None) -> Any:
        """A cursor as patient."""
        return super().cursor(factory or _PatientCursor)

    def outwait(self, execute: Callable[[], T]) -> T:
        """What `execute` returns once no other program has locked the database."""
        done = self.patience.outwait(execute, is_away=self._is_locked, pause_s=_PAUSE_S)
        if self.in_transaction:  # to read is possible all the time
            self.patience.reset()
        return done

    def _is_locked(self, error: Exception) -> bool:
        """Whether nothing has begun yet because another program has locked the database."""
        if not isinstance(error, sqlite3.OperationalError) or self.in_transaction:
            return False
        return error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY


class _PatientCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> _PatientCursor:
        return self._patient.outwait(lambda: super(_PatientCursor, self).execute(sql, parameters))

    def executemany(self, sql: str, parameters: Iterable[Any]) -> _PatientCursor:
        rows = list(parameters)
        return self._patient.outwait(lambda: super(_PatientCursor, self).executemany(sql, rows))

    @property
    def _patient(self) -> PatientConnection:
        assert isinstance(self.connection, PatientConnection)
        return self.connection


def connect_patiently(path: Path, patience: Patience) -> PatientConnection:
    """A connection to the SQLite file at `path`, to write.

    Every transaction begins with the lock for writing: one that begins to read and writes later may fail at once.
    """
    connection = sqlite3.connect(
        path, timeout=_TRY_S, isolation_level="IMMEDIATE", check_same_thread=False, factory=PatientConnection
    )
    connection.patience = patience
    return connection


def locked_for(path: Path) -> Patience:
    """Patience with a file that another program has locked."""
    trouble = f"The database {path} is locked by another program (a backup, a dashboard, sqlite3)"
    return Patience(trouble, limit_s=_LOCKED_FOR_S)


def away_for(shown: str) -> Patience:
    """Patience with a server that is being restarted; `shown` is its URL without the password."""
    return Patience(f"The storage {shown} does not answer", limit_s=_AWAY_FOR_S)


def outwait_restarts(engine: Engine, patience: Patience) -> None:
    """Let `engine` connect again to a server as long as `patience` lasts."""
    from sqlalchemy import event

    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        connection = patience.outwait(
            lambda: dialect.connect(*arguments, **options),
            is_away=lambda error: isinstance(error, dialect.loaded_dbapi.OperationalError),
            pause_s=_CONNECT_EVERY_S,
        )
        patience.reset()
        return connection

    event.listen(engine, "do_connect", connect)

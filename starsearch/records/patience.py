"""Connections that outwait a database which is locked, or a server that is being restarted.

Only what has not begun is tried again: the first statement of a transaction, or a connection. Nothing is written twice.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")

# One try; an interrupt is noticed between two.
_TRY_S = 5.0
_LOCKED_FOR_S = 600.0
# Less than a lease still holds, which is renewed every 30 s of 120: no other host takes the study meanwhile.
_AWAY_FOR_S = 60.0
_PRIMARY = 0xFF  # of SQLite's extended error codes


class Patience:
    """How long all connections to a storage have waited for it; the user is told once each time.

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

    def may_wait(self) -> bool:
        """Note that the storage could not be had; whether to try again."""
        if self._since is None:
            self._since = self._clock()
            warnings.warn(f"{self._trouble}. Waiting up to {self._limit_s:g} s for it.", stacklevel=2)
        return self._clock() - self._since < self._limit_s

    def reset(self) -> None:
        """The storage was had."""
        self._since = None


class PatientConnection(sqlite3.Connection):
    """A connection to SQLite that waits before a transaction as long as its `patience` lasts."""

    patience: Patience

    def cursor(self, factory: Any = None) -> Any:
        """A cursor as patient."""
        return super().cursor(factory or _PatientCursor)

    def outwait(self, execute: Callable[[], T]) -> T:
        """What `execute` returns once no other program has locked the database."""
        while True:
            try:
                done = execute()
            except sqlite3.OperationalError as error:
                is_locked = error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
                if not is_locked or self.in_transaction or not self.patience.may_wait():
                    raise
            else:
                if self.in_transaction:  # to read is possible all the time
                    self.patience.reset()
                return done


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


def outwait_restarts(engine: Engine, shown: str) -> None:
    """Let `engine` connect again to a server that is being restarted; `shown` is its URL without the password."""
    from sqlalchemy import event

    patience = Patience(f"The storage {shown} does not answer", limit_s=_AWAY_FOR_S)

    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                if not patience.may_wait():
                    raise
                time.sleep(1.0)
            else:
                patience.reset()
                return connection

    event.listen(engine, "do_connect", connect)

"""The lease: one live driver a study.

The holder's host, process and token stand in a user attribute of the study with the time until which they hold.
A holder on this host that is no longer alive has lost it at once; one on another host when that time is over.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError, StudyLeasedError
from starsearch.records.open_study import OpenStudy
from starsearch.records.storage import storage_file
from starsearch.records.table import load_attributes

_ATTRIBUTE = "lease"
_HOLDS_S = 120.0
_RENEWED_EVERY_S = 30.0
# psutil derives a start time from the system's boot time, which moves when the clock is set.
_START_TOLERANCE_S = 2.0
# Tokens of this process that it could not give back, as the storage failed: it may go on itself, in a notebook.
_ABANDONED: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that holds a study.

    Attributes:
        host: its name.
        pid: of the process.
        process_started: when, in seconds since 1970; another process may have the pid later.
        token: of this lease alone.
        since: when it was taken, ISO 8601, UTC.
        expires: until when it holds unless renewed, in seconds since 1970.
    """

    host: str
    pid: int
    process_started: float
    token: str
    since: str
    expires: float

    def is_live(self, *, host: str, now: float) -> bool:
        """Whether the holder, seen from `host`, must be taken for alive."""
        if self.host != host:
            return now < self.expires
        started = process_start_time(self.pid)
        return started is not None and abs(started - self.process_started) < _START_TOLERANCE_S


class Lease:
    """A lease that is held and renewed; `check` before every write."""

    def __init__(self, record: OpenStudy, holder: Holder, clock: Callable[[], float]) -> None:
        self._record = record
        self._holder = holder
        self._clock = clock
        self._lost = False
        self._renewing = threading.Lock()
        self._released = threading.Event()
        # Renewed beside an evaluation that may take hours; a daemon, so that it never keeps a process alive.
        self._renewer = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Return if the lease still holds.

        Raises:
            StudyLeasedError: it was lost: nothing may be written any more.
            StudyError: it is over and the storage fails.
        """
        if not self._lost and self._clock() > self._holder.expires:
            self.renew()  # a laptop that slept: the lease is over, but nobody may have taken it
        if self._lost:
            raise StudyLeasedError(
                f"This driver has lost the study {self._record.name!r}: its lease was not renewed for {_HOLDS_S:g} s "
                "and another driver took it. Finished trials are kept; run the same command again."
            )

    def renew(self) -> None:
        """Hold for another two minutes, unless someone else has taken the study meanwhile."""
        with self._renewing:  # the driver's thread may renew, too
            current = _read(self._record)
            if current is None or current.token != self._holder.token:
                self._lost = True
                return
            renewed = replace(self._holder, expires=self._clock() + _HOLDS_S)
            self._record.set_attribute(_ATTRIBUTE, asdict(renewed))
            self._holder = renewed

    def release(self) -> None:
        """Let go of the study; a storage that is locked or away is not waited for.

        Raises:
            StudyError: the storage fails; in this process the lease is over nevertheless.
        """
        self._released.set()
        _ABANDONED.add(self._holder.token)  # first: a second interrupt may come while the renewer ends
        self._record.stop_waiting()
        self._renewer.join()
        if _read(self._record) == self._holder:
            self._record.set_attribute(_ATTRIBUTE, None)
        _ABANDONED.discard(self._holder.token)

    def _renew_until_released(self) -> None:
        while not self._released.wait(_RENEWED_EVERY_S) and not self._lost:
            with suppress(StudyError):  # tried again until the lease is over
                self.renew()


@contextmanager
def hold_lease(record: OpenStudy, *, clock: Callable[[], float] = time.time) -> Iterator[Lease]:
    """Hold the study of `record`, alone.

    Raises:
        StudyLeasedError: another live driver holds it; the text says where, which and since when.
    """
    with _alone_on_this_host(record):
        lease = record.lease = Lease(record, _take(record, clock()), clock)
    try:
        yield lease
    finally:
        record.lease = None
        with suppress(StudyError):  # a storage that fails has been reported; the lease dies with the process
            lease.release()


def working_driver(url: str, name: str) -> Holder | None:
    """The live process that works on the study, or None."""
    held = load_attributes(url, name).get(_ATTRIBUTE)
    holder = None if held is None else Holder(**held)
    return holder if holder and holder.is_live(host=socket.gethostname(), now=time.time()) else None


def process_start_time(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None where there is none of this pid."""
    import psutil

    try:
        process = psutil.Process(pid)
        # A zombie writes nothing: it was killed, and its parent has not looked yet.
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _take(record: OpenStudy, now: float) -> Holder:
    host = socket.gethostname()
    current = _read(record)
    if current is not None and current.token not in _ABANDONED and current.is_live(host=host, now=now):
        raise StudyLeasedError(
            f"Another driver works on the study {record.name!r}: process {current.pid} on {current.host}, "
            f"since {current.since}. Wait for it or stop it, or give this study another --name."
        )
    started = process_start_time(os.getpid())
    assert started is not None
    holder = Holder(
        host=host,
        pid=os.getpid(),
        process_started=started,
        token=uuid.uuid4().hex,
        since=datetime.fromtimestamp(now, tz=UTC).isoformat(timespec="seconds"),
        expires=now + _HOLDS_S,
    )
    record.set_attribute(_ATTRIBUTE, asdict(holder))
    return holder


def _read(record: OpenStudy) -> Holder | None:
    held: dict[str, Any] | None = record.attribute(_ATTRIBUTE)
    return None if held is None else Holder(**held)


@contextmanager
def _alone_on_this_host(record: OpenStudy) -> Iterator[None]:
    """Nobody else on this host may take the lease meanwhile; the system frees a dead process's lock."""
    from filelock import FileLock

    file = storage_file(record.url)
    where = str(file.resolve()) if file else record.url
    digest = hashlib.sha256(f"{where}\n{record.name}".encode()).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"starsearch-{_user()}-{digest}.lock"):
        yield


def _user() -> str:
    return str(os.geteuid()) if hasattr(os, "geteuid") else os.environ.get("USERNAME", "user")

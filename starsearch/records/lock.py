"""One driver for each study: a file lock keeps processes of one host apart, an expiring lease in the storage hosts.

The system frees the lock when its process dies, however it dies. The lease is a user attribute of the study (who holds
it, on which host, until when) that a thread renews.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError, StudyLeasedError
from starsearch.records.storage import storage_file

LEASE = "lease"
_HOLDS_S = 120.0
_RENEWED_EVERY_S = 30.0


@contextmanager
def alone(lock: Path, refusal: str, *, within_s: float = 1.0) -> Iterator[None]:
    """Hold the lock file; raise `StudyLeasedError` with the words of `refusal` where another process holds it."""
    from filelock import FileLock, Timeout

    file = FileLock(lock)
    try:
        file.acquire(timeout=within_s)  # `working_driver` holds it for a moment
    except Timeout:
        raise StudyLeasedError(refusal) from None
    except OSError as error:
        raise StudyError(f"{lock} cannot be written: {error.strerror}. Make the folder writable.") from None
    try:
        yield
    finally:
        file.release()


class Lease:
    """A lease of the study `name` that is held and renewed; the record checks it before every write.

    Args:
        read, write: the study's attribute of the name `LEASE`.
    """

    def __init__(self, name: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._name, self._read, self._write, self._lost, self._expires = name, read, write, False, 0.0
        self._holder = f"process {os.getpid()} on {socket.gethostname()} since {now}"
        self._writing, self._released = threading.Lock(), threading.Event()
        self._extend()
        # Renewed beside an evaluation that may take hours; a daemon, so that it never keeps a process alive.
        self._renewer = threading.Thread(target=self._renew_until_released, name="lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        """Raise `StudyLeasedError` where the lease was lost, so that nothing may be written any more."""
        if not self._lost and time.time() > self._expires:
            self.renew()  # a laptop that slept: the lease has expired, but nobody may have taken it
        if self._lost:
            raise StudyLeasedError(
                f"This driver has lost the study {self._name!r}: its lease was not renewed for {_HOLDS_S:g} s "
                "and another driver took it. Finished trials are kept; run the same command again."
            )

    def renew(self) -> None:
        """Hold for another two minutes, unless another driver has taken the study meanwhile."""
        with self._writing:  # the driver's thread may renew, too
            self._lost = (self._read() or {}).get("holder") != self._holder
            if not self._lost:
                self._extend()

    def release(self) -> None:
        """Let go of the study."""
        self._released.set()
        self._renewer.join()
        self.renew()
        if not self._lost:
            self._write(None)

    def _extend(self) -> None:
        expires = time.time() + _HOLDS_S
        self._write({"holder": self._holder, "host": socket.gethostname(), "expires": expires})
        self._expires = expires

    def _renew_until_released(self) -> None:
        while not self._released.wait(_RENEWED_EVERY_S) and not self._lost:
            with suppress(StudyError):  # tried again until the lease has expired
                self.renew()


def working_driver(url: str, name: str, attributes: Mapping[str, Any]) -> str | None:
    """Return who works on the study of these attributes in words, or None; a free lock says that its holder died."""
    lease: dict[str, Any] | None = attributes.get(LEASE)
    if lease is None or (lease["host"] != socket.gethostname() and time.time() > lease["expires"]):
        return None
    if lease["host"] == socket.gethostname():
        try:
            with alone(lock_file(url, name), "", within_s=0):
                return None
        except StudyLeasedError:
            pass
        except StudyError:  # nobody works in a folder that cannot be written
            return None
    return str(lease["holder"])


def lock_file(url: str, name: str) -> Path:
    """Return the study's lock file: beside its database, or for a server's in this host's temporary folder."""
    if (file := storage_file(url)) is not None:
        return file.resolve().with_name(f".{name}.lock")
    user = str(os.geteuid()) if hasattr(os, "geteuid") else os.environ.get("USERNAME", "user")
    digest = hashlib.sha256(f"{url}\n{name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"starsearch-{user}-{digest}.lock"

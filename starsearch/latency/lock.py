"""Who computes leaves the machine alone while something is measured: a readers–writer lock between processes.

`with computing():` stands around a training step, `with measuring():` around a stretch of timed runs. Any
number of threads and processes compute at once; one measures, and then nobody computes. The lock is the
kernel's (flock), so a process that dies, however it dies, holds nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    _HAS_FLOCK = False
else:
    _HAS_FLOCK = True

_PATIENCE_S = 60.0

_logger = logging.getLogger(__name__)

Mode = Literal["computing", "measuring"]


class _Thread(threading.local):
    """What the calling thread does under the lock."""

    mode: Mode | None = None


class MachineLock:
    """A readers–writer lock between all threads and processes that use the same folder.

    Two files: the *room* is locked shared by those who compute and exclusively by the one who measures; the
    *turnstile* before it is passed one by one. A measurer waits for the room inside the turnstile, so nobody
    else begins to compute and however many trainers there are, it has the room when their present steps end.
    It leaves the turnstile once inside, so a trainer is next in line and is not starved by measurements.

    A thread that computes or measures may compute once more inside (a no-op); one that measures may measure.
    The lock is held by a thread, so a generator must not yield inside: hold it for short stretches.

    Args:
        folder: where the two files are; made when missing. All who shall exclude each other name the same one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Joined once: pathlib's joining costs as much as opening the file.
        self._turnstile, self._room = str(folder / "turnstile.lock"), str(folder / "room.lock")
        self._thread = _Thread()

    def computing(self) -> AbstractContextManager[None]:
        """Inside, nobody measures. Waits for who measures now, and for who has waited longer to measure."""
        return self._hold("computing") if self._thread.mode is None else nullcontext()

    def measuring(self) -> AbstractContextManager[None]:
        """Inside, nobody else computes or measures. Waits until all who compute have left.

        Raises:
            RuntimeError: this thread is computing: it would wait for itself.
        """
        if self._thread.mode == "computing":
            raise RuntimeError("measuring() inside computing() of the same thread would wait for itself forever.")
        return self._hold("measuring") if self._thread.mode is None else nullcontext()

    @contextmanager
    def _hold(self, mode: Mode) -> Iterator[None]:
        room = self._try_to_enter_room(mode)
        self._thread.mode = mode
        try:
            yield
        finally:
            self._thread.mode = None
            if room is not None:
                _leave(room)

    def _try_to_enter_room(self, mode: Mode) -> int | None:
        """The locked room's descriptor; None where no lock can be had, which is said once."""
        if not _HAS_FLOCK:
            _say_unlocked("this system has no flock")
            return None
        try:
            return self._enter_room(fcntl.LOCK_SH if mode == "computing" else fcntl.LOCK_EX)
        except OSError as error:  # a folder that cannot be written, a file system without locks
            _say_unlocked(f"{self._folder} cannot hold one ({error.strerror})")
            return None

    def _enter_room(self, operation: int) -> int:
        turnstile = self._open(self._turnstile)
        try:
            self._lock(turnstile, fcntl.LOCK_EX)
            room = self._open(self._room)
            try:
                self._lock(room, operation)
            except BaseException:
                os.close(room)
                raise
        finally:
            _leave(turnstile)
        return room

    def _open(self, path: str) -> int:
        # Opened anew each time: flock belongs to the open file, so every thread needs its own; a forked child
        # inherits none that lies idle; and files that a cleaner of the temp folder took away come back.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _lock(self, descriptor: int, operation: int) -> None:
        """Lock; who waits long is told why, since a suspended process keeps its locks."""
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            notice = threading.Timer(_PATIENCE_S, _say_waiting, (self._folder,))
            notice.daemon = True
            notice.start()
            try:
                fcntl.flock(descriptor, operation)
            finally:
                notice.cancel()


def computing() -> AbstractContextManager[None]:
    """Stands around whatever computes for a short while (a training step): inside, nothing is measured."""
    return _machine_lock().computing()


def measuring() -> AbstractContextManager[None]:
    """Stands around timed runs: inside, nothing else of starsearch computes on this machine (for this user)."""
    return _machine_lock().measuring()


@functools.cache
def _machine_lock() -> MachineLock:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return MachineLock(Path(tempfile.gettempdir()) / f"starsearch-{user}")


def _leave(descriptor: int) -> None:
    # Closing alone would not unlock while a child forked in the meantime still has the descriptor.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _say_waiting(folder: Path) -> None:
    _logger.warning(
        "Waiting since %.0f s for another starsearch process on this machine to finish computing or measuring. "
        "If none is running, one may be suspended (Ctrl-Z): resume or end it. The lock is in %s.",
        _PATIENCE_S,
        folder,
    )


@functools.cache
def _say_unlocked(reason: str) -> None:
    _logger.warning(
        "Latency is measured without a lock, since %s: let nothing else compute on this machine meanwhile.", reason
    )

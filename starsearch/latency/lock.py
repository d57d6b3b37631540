"""A readers–writer lock between processes: nothing computes on this machine while something is timed.

`with computing():` goes around a training step, `with measuring():` around a stretch of timed runs. Any number of
threads and processes compute at once; one measures, and then nobody computes. The lock is the kernel's (flock), so a
process that dies holds nothing.

There are two files. The *room* is locked shared to compute and exclusively to measure. The *turnstile* before it is
passed one at a time: a measurement waits for the room inside the turnstile, so nobody else begins to compute, and
however many trainers there are it has the room when their current steps end. It leaves the turnstile once inside, so
a trainer is next in line and is not starved by measurements. (Neither filelock nor fasteners has a turnstile.)

A thread that computes or measures may compute once more inside (a no-op); one that measures may measure. The lock is
held by a thread, so a generator must not yield inside.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    _HAS_FLOCK = False
else:
    _HAS_FLOCK = True

PATIENCE_S = 60.0  # of a waiting process, before it says why it waits
_WAITING = (
    "Waiting for %.0f s for another starsearch process on this machine to finish computing or measuring. "
    "If none is running, one may be suspended (Ctrl-Z): resume or end it. The lock is in %s."
)

_logger = logging.getLogger(__name__)

_thread = threading.local()  # its `mode` is what the calling thread holds


def computing() -> AbstractContextManager[None]:
    """Enter a short stretch of computing (a training step), during which nothing is measured."""
    return nullcontext() if _held() else _hold("computing")


def measuring() -> AbstractContextManager[None]:
    """Enter a stretch of timed runs, during which no other process of this user's starsearch computes here.

    Raises:
        RuntimeError: this thread is computing, and would wait for itself.
    """
    if _held() == "computing":
        raise RuntimeError("measuring() inside computing() of the same thread would wait for itself forever.")
    return nullcontext() if _held() else _hold("measuring")


def _held() -> str | None:
    return getattr(_thread, "mode", None)


@contextmanager
def _hold(mode: str) -> Iterator[None]:
    room = _enter(mode)
    _thread.mode = mode
    try:
        yield
    finally:
        _thread.mode = None
        if room is not None:
            _leave(room)


def _enter(mode: str) -> int | None:
    """Return the locked room's descriptor; None where no lock is possible, which is logged once."""
    if not _HAS_FLOCK:
        _warn_unlocked("this system has no flock")
        return None
    folder = f"{tempfile.gettempdir()}/starsearch-{os.getuid()}"
    try:
        turnstile = _lock(folder, "turnstile.lock", fcntl.LOCK_EX)
        try:
            return _lock(folder, "room.lock", fcntl.LOCK_SH if mode == "computing" else fcntl.LOCK_EX)
        finally:
            _leave(turnstile)
    except OSError as error:  # a folder that cannot be written, a file system without locks
        _warn_unlocked(f"{folder} cannot hold one ({error.strerror})")
        return None


def _lock(folder: str, name: str, operation: int) -> int:
    # Opened anew each time: flock belongs to the open file, so every thread needs its own; a forked child
    # inherits none that lies idle; and files that a cleaner of the temp folder took away come back.
    path, flags = f"{folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - joining with pathlib costs as much as opening
        descriptor = os.open(path, flags, 0o600)
    try:
        _wait_for(descriptor, operation, folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_for(descriptor: int, operation: int, folder: str) -> None:
    """Lock; explain a long wait, since a suspended process keeps its locks."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        notice = threading.Timer(PATIENCE_S, _logger.warning, (_WAITING, PATIENCE_S, folder))
        notice.daemon = True
        notice.start()
        try:
            fcntl.flock(descriptor, operation)
        finally:
            notice.cancel()


def _leave(descriptor: int) -> None:
    # Closing alone would not unlock while a child forked in the meantime still has the descriptor.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@functools.cache
def _warn_unlocked(reason: str) -> None:
    _logger.warning(
        "Latency is measured without a lock, since %s: let nothing else compute on this machine meanwhile.", reason
    )

"""Optuna's journal file, so that nothing is appended behind a torn line, and no lock is waited for in vain."""

from __future__ import annotations

import json
import os
import time
import uuid
import warnings
from itertools import count
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

_BLOCK = 1 << 16
_LOCKED_FOR_S = 30.0  # as Optuna's own grace period
_RECORD = b'{"op_code"'


class JournalFile(JournalFileBackend):
    """The journal at `path`.

    A power cut or a full disk leaves half a line at its end. What is appended behind that makes the whole file
    unreadable, so the half line is moved into a file of its own first. Reading changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self._mutex)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole lines behind whole lines."""
        self._outwait_dangling_lock()
        if not _is_whole(self._last_line()[1]):
            self._mutex.acquire()  # what looks torn may be another process's line that is being written
            try:
                self._repair()
            finally:
                self._mutex.release()
        super().append_logs(logs)

    def _last_line(self) -> tuple[int, bytes]:
        """Return where the last line begins, and the line."""
        with self._path.open("rb") as file:
            start = size = file.seek(0, os.SEEK_END)
            tail = b""
            while start > 0:
                start = max(0, start - _BLOCK)
                file.seek(start)
                tail = file.read(size - start)
                if (end := tail.rfind(b"\n", 0, -1)) >= 0:
                    return start + end + 1, tail[end + 1 :]
        return 0, tail

    def _repair(self) -> None:
        start, line = self._last_line()
        if _is_whole(line):
            return
        if _is_whole(line + b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")
            return
        names = (Path(f"{self._path}.torn-{number}") for number in count(1))
        aside = next(path for path in names if not path.exists())
        with aside.open("xb") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        os.truncate(self._path, start)
        warnings.warn(
            f"The journal {self._path} ended in half a record, as a power cut or a full disk leaves it. It was moved "
            f"to {aside}; everything before it is kept.",
            stacklevel=2,
        )

    def _outwait_dangling_lock(self) -> None:
        """Remove a dead process's lock that leads nowhere, since Optuna asks the file it leads to for its age.

        A process that names the journal by a relative path makes such a lock.
        """
        lock = Path(f"{self._path}.lock")
        while lock.is_symlink() and not lock.exists():
            probe = Path(f"{lock}-{uuid.uuid4()}")
            probe.symlink_to(self._path)  # its time is that of the file system's own clock
            is_left = probe.lstat().st_mtime - lock.lstat().st_mtime > _LOCKED_FOR_S
            probe.unlink()
            if is_left:
                lock.unlink(missing_ok=True)
            else:
                time.sleep(0.1)


def repair_in_words(path: Path) -> str:
    """Return what is wrong with a journal that cannot be read, and what to do."""
    with path.open("rb") as file:
        number, line = next(((n, line) for n, line in enumerate(file, 1) if not _is_whole(line)), (0, b""))
    behind = line.rfind(_RECORD)
    if behind > 0 and _is_whole(line[behind:]):
        return (
            f"in its line {number} a record was appended behind half of another. Take the half out and run the same "
            f"command again:\n  LC_ALL=C sed -i.damaged -E '{number}s/^.*(\\{{\"op_code\")/\\1/' {path}\nThe damaged "
            f"journal is kept as {path}.damaged"
        )
    return f"its line {number} is damaged. Restore a copy"


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line or b"{}\n")
    except ValueError:
        return False
    return not line or line.endswith(b"\n")

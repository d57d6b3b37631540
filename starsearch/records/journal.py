"""Optuna's journal file, in which nothing is appended behind half a record."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock


class JournalFile(JournalFileBackend):
    """The journal at `path`.

    A power cut or a full disk leaves half a record at its end. What is appended behind that makes the whole file
    unreadable, so it is moved into a file of its own first. Reading changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = JournalFileSymlinkLock(str(path))
        super().__init__(str(path), self._mutex)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole records behind whole records."""
        if not self._is_whole():
            self._mutex.acquire()  # what looks torn may be another process's record that is being written
            try:
                if not self._is_whole():
                    self._move_torn_record()
            finally:
                self._mutex.release()
        super().append_logs(logs)

    def _is_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            return file.read() in (b"", b"\n")

    def _move_torn_record(self) -> None:
        content = self._path.read_bytes()
        end = content.rfind(b"\n") + 1
        aside = self._path.with_name(f"{self._path.name}.torn-{end}")
        aside.write_bytes(content[end:])
        os.truncate(self._path, end)
        warnings.warn(
            f"The journal {self._path} ended in half a record, as a power cut or a full disk leaves it. It was moved "
            f"to {aside}; everything before it is kept.",
            stacklevel=2,
        )

"""Writing a file or folder so that it is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from starsearch.errors import StarsearchError, StudyError


@contextlib.contextmanager
def written_whole(
    path: Path, what: str = "", *, error: type[StarsearchError] = StudyError, advice: str = "Free some space there."
) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder at; it takes `path`'s place when the block succeeds.

    On an error `path` stays as it was and nothing else remains.

    Args:
        path: the file or folder to write; missing parents are made.
        what: what is written, for the message; the file's name where it is left out.
        error: the error raised where the system refuses (a full disk, a read-only folder).
        advice: what the user can do about it.
    """
    # Not by the process's number: a worker that was given up may still write where its successor on another host does.
    partial = path.with_name(f".partial.{uuid.uuid4().hex[:8]}.{path.name}")  # Core ML loads none of another suffix
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _replace(partial, path)
    except OSError as reason:
        raise error(f"Cannot write {what or path.name} to {path}: {reason.strerror or reason}. {advice}") from reason
    finally:
        _remove(partial)


def _replace(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`; a folder that is there steps aside, and comes back if that fails."""
    if not (partial.is_dir() and path.is_dir()):
        partial.replace(path)
        return
    old = partial.with_name(f".old{partial.name}")
    path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Delete what is there, if possible: an earlier error matters more."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()

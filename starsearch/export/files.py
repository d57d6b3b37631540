"""Writing what is exported so that it is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from starsearch.errors import ExportError


@contextlib.contextmanager
def replaced_when_done(out: Path) -> Iterator[Path]:
    """A path beside `out` to write a file or folder at; it takes `out`'s place when the block ends without error.

    What the block leaves is renamed, in one step where `out` did not exist or is a file. On an error `out` stays
    as it was and nothing else remains.

    Raises:
        ExportError: the disk is full, the folder read-only, a parent missing …
    """
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _take_place(partial, out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"Cannot write the export to {out}: {reason}. Free some space there, or choose another folder."
        ) from error
    finally:
        _remove(partial)


def _take_place(partial: Path, out: Path) -> None:
    """A folder cannot be renamed onto one that has files: the old one steps aside, and comes back if that fails."""
    if not (partial.is_dir() and out.is_dir()):
        partial.replace(out)
        return
    old = out.with_name(f"{partial.name}.old")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Deletes what is there, if it can: what went wrong before is what the user wants to hear of."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()

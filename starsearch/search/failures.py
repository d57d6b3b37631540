"""Why an evaluation failed: one line for the user, the traceback for a file."""

from __future__ import annotations

from pathlib import Path

_MAX_REASON_CHARS = 500


def failure_reason(error: BaseException) -> str:
    """One line: the exception's type and what it says first."""
    if isinstance(error, OSError) and error.strerror:
        # Not str(error): it names the file by its whole path, and a record holds no path of a machine.
        return f"{type(error).__name__}: {error.strerror}" + (
            f": {Path(error.filename).name}" if error.filename else ""
        )
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, MemoryError) and not said:
        said = "out of memory"
    return f"{type(error).__name__}: {said}".removesuffix(": ")[:_MAX_REASON_CHARS]


def write_log(folder: Path | None, number: int, text: str) -> Path | None:
    """`logs/trial-N.txt` in the study's folder; None where there is no text or no place for it."""
    if folder is None or not text:
        return None
    path = folder / "logs" / f"trial-{number}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError:  # the reason is in the record; a full disk shall not make the study fail here
        return None
    return path

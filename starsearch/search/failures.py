"""Why an evaluation failed: one line for the user, the traceback for a file; and when there are too many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError, StudyError, TrainingDivergedError

_MAX_REASON_CHARS = 500
# So many failures one after the other are not the candidates' fault.
_MAX_IN_A_ROW = 20
_OF_RECIPES = (EvaluationError.__name__, TrainingDivergedError.__name__)


class Failures:
    """Counts failures in a row, and the workers that died of each candidate.

    Args:
        tries: that a candidate has whose workers die.
    """

    def __init__(self, *, tries: int) -> None:
        self.tries = tries
        self._in_a_row: list[str] = []
        self._deaths: Counter[str] = Counter()

    def reset(self) -> None:
        """A candidate was evaluated."""
        self._in_a_row.clear()

    def may_retry(self, candidate: Candidate) -> bool:
        """Note that a worker has died of the candidate; whether it may have another."""
        self._deaths[candidate.key] += 1
        return self._deaths[candidate.key] < self.tries

    def forgive(self, candidate: Candidate) -> None:
        """The candidate has come further: it is not what its workers die of."""
        self._deaths.pop(candidate.key, None)

    def add(self, number: int, reason: str, log: Path | None) -> None:
        """Note that trial `number` has failed.

        Raises:
            StudyError: it was the twentieth in a row.
        """
        self._in_a_row.append(reason.partition(" (logs/")[0])
        if len(self._in_a_row) >= _MAX_IN_A_ROW:
            # What all are refused for is in what they share; a full disk or a lost file is not in the study's file.
            is_shared = len(set(self._in_a_row)) == 1 and reason.startswith(_OF_RECIPES)
            raise StudyError(
                f"{_MAX_IN_A_ROW} candidates in a row have failed, the last, trial {number}, with: {reason}\n"
                + (f"Its traceback is in {log}. " if log else "")
                + (
                    "All have failed for this one reason: correct the recipe or the fidelity in the study's file. A "
                    "study without a finished trial takes the change; another one needs a new --name."
                    if is_shared
                    else "Finished trials are kept: find the cause and run the same command again."
                )
            )


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

"""Where trainings are kept between two trials, or between the death of a worker and the next."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from starsearch.candidate import Candidate

_FOLDER = "checkpoints"


class CheckpointShelf:
    """The checkpoints of a study: `checkpoints/KEY.pt` in its folder, by the candidate's key.

    A file is there as long as its training may go on: it was cut off, or stopped at a rung.

    Args:
        folder: the study's; None keeps none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def place(self, candidate: Candidate) -> Path | None:
        """Where the training of `candidate` is kept; whoever writes there makes the folder."""
        return None if self._folder is None else self._folder / _FOLDER / f"{candidate.key}.pt"

    def drop(self, candidate: Candidate) -> None:
        """The training has ended."""
        path = self.place(candidate)
        if path is None:
            return
        self._delete(path.parent.glob(f"{path.name}*"))

    def clear(self, *, keep: Iterable[str]) -> None:
        """Delete what a killed driver has left, but for the trainings of these candidates' keys."""
        if self._folder is not None:
            kept = {f"{key}.pt" for key in keep}
            self._delete(path for path in (self._folder / _FOLDER).glob("*.pt*") if path.name not in kept)

    @staticmethod
    def _delete(files: Iterable[Path]) -> None:
        for file in files:
            with suppress(OSError):  # a file too many is no reason to end a study
                file.unlink(missing_ok=True)

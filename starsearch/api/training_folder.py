"""The folder of a training: its recipe, its log, its last state, its best weights and what came out."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError
from starsearch.files import written_whole
from starsearch.progress import Progress
from starsearch.recipe import Recipe

# A column of the log and the reading it holds.
_COLUMNS = {
    "lr": "learning_rate",
    "train_loss": "train_loss",
    "top1": "top1_percent",
    "top5": "top5_percent",
    "images_per_second": "images_per_second",
}
Row = dict[str, float]
_written = partial(written_whole, advice="The training is kept as it was: make room and run the same command.")


class TrainingFolder:
    """A training's files by name, and the rows of its log; the folder is made if it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.safetensors"
        self.exported = path / "timm"  # the best weights as timm loads them
        self.log = path / "log.csv"
        self._began = time.monotonic()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"The folder {path} of the training cannot be made: {error.strerror}. Give another one with --out."
            ) from error
        self.rows = self._read_log()
        self._seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0

    def write_recipe(self, recipe: Recipe) -> None:
        """Write recipe.yaml, unless a training is resumed: its recipe is the same, or the training is refused."""
        if self.last.is_file():
            return
        import yaml

        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
        head = "# As trained: the recipe with what the command line changed.\n"
        with _written(self.path / "recipe.yaml") as file:
            file.write_text(head + yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")

    def add_epoch(self, progress: Progress) -> None:
        """Write an epoch's row; it and later ones from before a training was cut off are replaced."""
        assert progress.epoch is not None
        values = {column: progress.values[name] for column, name in _COLUMNS.items()}
        seconds = self._seconds_before + time.monotonic() - self._began
        row = {"epoch": float(progress.epoch), **values, "seconds": seconds}
        self.rows = [*(known for known in self.rows if known["epoch"] < progress.epoch), row]
        with _written(self.log) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _in_full(value) for name, value in one.items()} for one in self.rows)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        with _written(self.path / "summary.json") as file:
            file.write_text(json.dumps(dict(summary), indent=2) + "\n", encoding="utf-8")

    def read_summary(self) -> dict[str, Any]:
        """Return what `write_summary` wrote; a training that has not ended has none."""
        try:
            found: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(f"The training in {self.path} has not ended yet: it has no summary.json.") from None
        return found

    def best_row(self) -> Row | None:
        """Return the row of the epoch with the best top-1, the first of equal ones; None where there is no row."""
        return max(self.rows, key=lambda row: row["top1"], default=None)

    def logged_epochs(self, *, after: int, of: int) -> list[Progress]:
        """Return the log's rows from number `after` on as the progress of a training of `of` epochs."""
        return [
            Progress(
                fraction=row["epoch"] / of,
                stage="training",
                epoch=int(row["epoch"]),
                values={name: row[column] for column, name in _COLUMNS.items()},
            )
            for row in self.rows[after:]
        ]

    def _read_log(self) -> list[Row]:
        if not (self.last.is_file() and self.log.is_file()):
            return []
        with self.log.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _in_full(value: float) -> str:
    """The shortest text that reads back as the same number: a rounded top-1 would lose, or win, an exact tie."""
    return str(int(value)) if value.is_integer() else repr(value)

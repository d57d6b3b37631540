"""The folder of a training: its recipe, its log, its last state, its best weights and what came out."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError
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


class TrainingFolder:
    """Files by their names, and the log's lines.

    Args:
        path: of the folder; made where it is not there.

    Raises:
        StudyError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.monotonic()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"The folder {path} of the training cannot be made: {error.strerror}. Give another one with --out."
            ) from error
        self.rows = self._read_log()
        self._seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0

    @property
    def last(self) -> Path:
        """The training's last state."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """The weights of its best epoch."""
        return self.path / "best.safetensors"

    @property
    def exported(self) -> Path:
        """The best weights as timm loads them."""
        return self.path / "timm"

    @property
    def log(self) -> Path:
        """A line an epoch."""
        return self.path / "log.csv"

    def write_recipe(self, recipe: Recipe) -> None:
        """Write recipe.yaml, unless a training goes on here: then it is the same, or the training is refused."""
        if self.last.is_file():
            return
        import yaml

        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
        head = "# As trained: the recipe with what the command line changed.\n"
        self._write("recipe.yaml", head + yaml.safe_dump(plain, sort_keys=False))

    def add_epoch(self, progress: Progress) -> Row:
        """Write an epoch's line; lines of it and of later ones, from before a training was cut off, are replaced."""
        assert progress.epoch is not None
        seconds = self._seconds_before + time.monotonic() - self._began
        row = {
            "epoch": float(progress.epoch),
            **{c: progress.values[v] for c, v in _COLUMNS.items()},
            "seconds": seconds,
        }
        self.rows = [*(known for known in self.rows if known["epoch"] < progress.epoch), row]
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _in_full(value) for name, value in one.items()} for one in self.rows)
        self._write(self.log.name, text.getvalue())
        return row

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json."""
        self._write("summary.json", json.dumps(dict(summary), indent=2) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """What `write_summary` wrote.

        Raises:
            StudyError: nothing yet.
        """
        try:
            found: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(f"The training in {self.path} has not ended yet: it has no summary.json.") from None
        return found

    def best_row(self) -> Row | None:
        """The log's line of the epoch with the best top-1, the first of equal ones; None where there is none."""
        return max(self.rows, key=lambda row: row["top1"], default=None)

    def told_epochs(self, *, after: int) -> list[Progress]:
        """The log's lines from number `after` on, as progress of no known fraction."""
        return [
            Progress(
                fraction=0.0,
                stage="validation",
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

    def _write(self, name: str, text: str) -> None:
        partial = self.path / f"{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / name)
        except OSError as error:
            raise StudyError(
                f"{name} cannot be written in {self.path}: {error.strerror}. The training is kept as it was: make room "
                "and run the same command."
            ) from error


def _in_full(value: float) -> str:
    """The shortest text that reads back as the same number: a rounded top-1 would lose, or win, an exact tie."""
    return str(int(value)) if value.is_integer() else repr(value)

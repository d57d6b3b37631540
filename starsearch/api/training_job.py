"""`TrainingJob`: a full training, decided before anything is trained; `TrainingFolder`: what it leaves behind."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.curves import FOLDER, Curve
from starsearch.api.networks import StudyTrial, resolve
from starsearch.data.source import DataSource
from starsearch.errors import ArchitectureError, SpecError, StudyError, counted
from starsearch.families.family import Architecture, presets
from starsearch.families.text import architecture_hash
from starsearch.files import written_whole
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, Recipe, changed_fields, value_text, with_batch_size
from starsearch.resolution import Between, Resolution, sides
from starsearch.study.recipe_file import check_trainable, load_recipe

if TYPE_CHECKING:
    from starsearch.training.weight_file import TrainedWeights

_SMALL = 128  # pixels; images of ImageNet are cropped for validation as timm does, small ones are not
_TIMM_CROP_PCT = 0.875
_RESOLUTION = 224
_DEFAULT_RECIPE = "starnet-imagenet"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """A training, decided in full; it travels to the workers of a cluster.

    Attributes:
        data: what `open_data` takes, with an absolute path.
        recipe: how it is trained, all changes included.
        hardware: what it runs on, by the names of `Hardware`'s attributes.
        notes: what it takes from a study's trial and what is overridden, a line each.
    """

    architecture: Architecture
    data: str
    recipe: Recipe
    fidelity: Fidelity
    seed: int
    folder: Path
    weights: TrainedWeights | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    keep_every_s: float = 120.0
    notes: tuple[str, ...] = ()


def plan_training(
    text: str,
    *,
    data: str,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    resolution: Resolution | None = None,
    crop_pct: float | None = None,
    stem_stride: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    keep_every_s: float = 120.0,
    hardware: Mapping[str, Any] | None = None,
) -> TrainingJob:
    """Decide the training that the user asks for; nothing is read but small files.

    Args:
        text: an architecture, as `resolve` takes it. A trial brings its recipe, resolution, crop and stem.
        data: as `open_data` takes it.
        recipe: a recipe file or a shipped one's name; None for the trial's, else "starnet-imagenet".
        epochs, batch_size: replace the recipe's; learning rates follow the batch by the linear rule.
        resolution: of training and validation; None for the trial's, else 224.
        crop_pct: crop of validation; None is the trial's, else timm's 0.875, and the whole image below 128 px.
        stem_stride: 1 for small images; None for the trial's, else 2.
        out: the training's folder; None is trainings/NAME.
        weights: what it begins with: a file of weights, a training's or an export's folder, STUDY:TRIAL, or a published
            network's name, of any network of the family; None draws new ones.
        keep_every_s: seconds after which it is kept within an epoch.
        hardware: values by the names of `Hardware`'s attributes.
    """
    if stem_stride not in (None, 1, 2):
        raise ArchitectureError(f"The stem's stride is 1 or 2; got {stem_stride}.")
    named = resolve(text)
    trial, architecture = named.trial, named.architecture
    chosen, notes = _choose_recipe(trial, recipe, epochs=epochs, batch_size=batch_size)
    fidelity: dict[str, Any] = {"resolution": resolution, "stem_stride": stem_stride, "crop_pct": crop_pct}
    if trial is not None:
        notes = (*describe_trial(text, trial, fidelity), *notes)
        fidelity = {name: getattr(trial.fidelity, name) if value is None else value for name, value in fidelity.items()}
    size = Between(8, 1024)(fidelity["resolution"] or _RESOLUTION)
    folder = Path(out) if out else Path("trainings") / _name_of(text, architecture)
    return TrainingJob(
        architecture=architecture,
        # A worker of a cluster has another working folder.
        data=DataSource.parse(data).absolute(),
        recipe=chosen,
        fidelity=Fidelity(
            name="full",
            resolution=size,
            crop_pct=fidelity["crop_pct"] or (_TIMM_CROP_PCT if min(sides(size)) >= _SMALL else 1.0),
            stem_stride=1 if fidelity["stem_stride"] == 1 else 2,
            recipe=recipe or _DEFAULT_RECIPE,
        ),
        seed=seed,
        folder=folder.resolve(),
        weights=None if weights is None else resolve(str(weights)).weights(),
        hardware=dict(hardware or {}),
        keep_every_s=keep_every_s,
        notes=notes,
    )


def _choose_recipe(
    trial: StudyTrial | None, recipe: str | None, *, epochs: int | None, batch_size: int | None
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with what the command line changes of it, and a line for each change of a trial's recipe."""
    notes: list[str] = []
    chosen = trial.recipe if trial is not None and recipe is None else load_recipe(recipe or _DEFAULT_RECIPE)
    steps = [
        (f"--recipe {recipe}", chosen),
        (f"--epochs {epochs}", chosen := chosen if epochs is None else replace(chosen, epochs=epochs)),
        (f"--batch-size {batch_size}", chosen := chosen if batch_size is None else with_batch_size(chosen, batch_size)),
    ]
    if trial is not None:
        before = trial.recipe
        for option, after in steps:
            notes += describe_override(option, before, after)
            before = after
        if chosen.epochs == trial.recipe.epochs:
            notes.append(
                f"It trains as long as the trial, {counted(chosen.epochs, 'epoch')}; --epochs N trains longer."
            )
    if chosen.initialization == "identity":
        chosen = replace(chosen, initialization="official")
        notes.append("A full training starts as published: initialization identity → official.")
    source = "--batch-size" if batch_size is not None else recipe or "the recipe"
    check_trainable(chosen, error=lambda _, message: SpecError(f"{source}: {message}"))
    return chosen, tuple(notes)


def describe_override(option: str, before: Recipe, after: Recipe) -> list[str]:
    """A line that says what of a trial's recipe an option overrides; none where it overrides nothing."""
    changes = [
        f"{name} {value_text(getattr(before, name))} → {value_text(new)}"
        for name, new in changed_fields(after, before).items()
    ]
    return [f"{option} overrides the trial's recipe: {', '.join(changes)}."] if changes else []


def describe_trial(text: str, trial: StudyTrial, given: Mapping[str, Any]) -> list[str]:
    """What is taken from a trial, its searched values in full; and what options override of its fidelity."""
    searched = [f"{name} {value_text(getattr(trial.recipe, name))}" for name in trial.searched]
    recipe = f"its recipe (searched: {', '.join(searched)})" if searched else "its recipe"
    fidelity = trial.fidelity
    crop = value_text(fidelity.crop_pct)
    begun = [f"It began with the weights of {fidelity.weights}, which are not taken over."] if fidelity.weights else []
    return [
        f"From {text}: {recipe}, {fidelity.resolution} px, stem stride {fidelity.stem_stride}, validation crop {crop}.",
        *begun,
        *(
            f"--{name.replace('_', '-')} overrides the trial's: {value_text(getattr(fidelity, name))} → "
            f"{value_text(value)}."
            for name, value in given.items()
            if value is not None and value != getattr(fidelity, name)
        ),
    ]


def _name_of(text: str, architecture: Architecture) -> str:
    """Of a training's folder: an anchor's name, STUDY-TRIAL, a file's stem, or the architecture's hash."""
    if text in presets():
        return text
    if Path(text).is_file():
        return Path(text).stem
    trial = re.fullmatch(r"(.+):(\d+)", text)
    if trial and "=" not in trial[1]:
        return f"{Path(trial[1].partition('@')[0]).name}-{trial[2]}"
    return architecture_hash(architecture)


class TrainingFolder:
    """A training's files by name, and the rows of its log; the folder is made if it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.pt"
        self.best = path / "best.safetensors"
        self.exported = path / "timm"  # the best weights as timm loads them
        self.log = path / "log.csv"
        self.curve = Curve(path / FOLDER)
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
        """Write an epoch's row and point; it and later ones from before a training was cut off are replaced."""
        assert progress.epoch is not None
        values = {column: progress.values[name] for column, name in _COLUMNS.items()}
        seconds = self._seconds_before + time.monotonic() - self._began
        row = {"epoch": float(progress.epoch), **values, "seconds": seconds}
        self.rows = [*(known for known in self.rows if known["epoch"] < progress.epoch), row]
        with _written(self.log) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _in_full(value) for name, value in one.items()} for one in self.rows)
        self.curve.add(progress)

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

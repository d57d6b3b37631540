"""One recipe's training as Ray Tune runs it: an actor that trains an epoch a step, and never sees the study.

Imported only where Ray runs: its base class is Ray's, so Ray is imported at the top.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from starsearch.data import DataSet
from starsearch.families.family import Architecture
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, Recipe
from starsearch.space import SearchSpace

_CHECKPOINT = "training.pt"
_ABOUT = "about.json"


SCRATCH = "tune/scratch"  # in the study's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What all trials of a recipe search have in common.

    Attributes:
        architecture: that is trained.
        data: that it is trained and validated on.
        recipe: the base recipe.
        space: of the recipe's searched fields.
        fidelity: resolution, epochs and samples.
        epochs: of a whole training, cool-down included.
        seed: of every training: recipes differ, weights and order of images do not.
        threads: of the processor.
        scratch: folder for what a training keeps while it lasts; whoever runs the search deletes it.
        changing: whether recipes change in the middle of a training (Population Based Training), which then is kept in
            a checkpoint after every epoch.
    """

    architecture: Architecture
    data: DataSet
    recipe: Recipe
    space: SearchSpace
    fidelity: Fidelity
    epochs: int
    seed: int
    threads: int
    scratch: Path
    changing: bool

    def decode(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe that a trial's params stand for."""
        return self.space.decode(params, self.recipe).recipe


class RecipeTraining(Trainable):
    """Trains a network by the recipe of its config, an epoch a step.

    A result holds `epoch`, what `train` says after it (`top1_percent`, …), the config as `params`, and as `origin` the
    trial and epoch at which this training parted from another's, None where it is its own from the start.
    """

    # Ray calls it with the keywords of `tune.with_parameters`.
    def setup(self, config: dict[str, Any], *, tuned: Tuned) -> None:  # type: ignore[override]
        """Get ready to train by `config`."""
        import torch

        torch.set_num_threads(tuned.threads)
        self._tuned = tuned
        tuned.scratch.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=tuned.scratch))
        self._origin: dict[str, Any] | None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Train another recipe in the same process, which has the images decoded."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for an epoch.

        Raises:
            EvaluationError: the training diverged, or the recipe cannot be carried out.
        """
        progress = self._train_changing() if self._tuned.changing else _next_epoch(self._whole_training())
        assert progress is not None, "a training that has ended is not stepped again"
        assert progress.epoch is not None
        self._epoch = progress.epoch
        return {
            **progress.values,
            "epoch": self._epoch,
            "params": dict(self._params),
            "origin": self._origin,
            "done": self._epoch >= self._tuned.epochs,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave the training after its last epoch, and whose it is."""
        about = {"trial": self.trial_id, "epoch": self._epoch, "origin": self._origin, "params": self._params}
        Path(checkpoint_dir, _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        if self._file.exists():
            shutil.copy(self._file, Path(checkpoint_dir, _CHECKPOINT))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on with a training, this trial's own or another's, by this trial's recipe."""
        from starsearch.search.tuning_checkpoint import hand_over

        about = json.loads(Path(checkpoint, _ABOUT).read_text(encoding="utf-8"))
        own = about["trial"] == self.trial_id
        self._origin = about["origin"] if own else {"trial": about["trial"], "epoch": about["epoch"]}
        self._epoch = about["epoch"]
        kept = Path(checkpoint, _CHECKPOINT)
        if kept.exists():
            shutil.copy(kept, self._file)
            hand_over(self._file, old=self._recipe_of(about["params"]), new=self._recipe_of(self._params))

    def cleanup(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, params: Mapping[str, Any]) -> None:
        self._params = dict(params)
        self._steps: Generator[Progress, None, Any] | None = None
        self._epoch = 0
        self._origin = None
        self._file = self._folder / f"{self.trial_id}.pt"
        self._file.unlink(missing_ok=True)

    def _recipe_of(self, params: Mapping[str, Any]) -> Recipe:
        """As `train` trains by it: the fidelity says for how long."""
        recipe = self._tuned.decode(params)
        epochs = self._tuned.fidelity.epochs
        return recipe if epochs is None else replace(recipe, epochs=epochs)

    def _whole_training(self) -> Generator[Progress, None, Any]:
        if self._steps is None:
            self._steps = self._train(until=None, checkpoint=None)
        return self._steps

    def _train_changing(self) -> Progress | None:
        """One more epoch from the checkpoint; the last one writes none, and nobody goes on from there."""
        steps = self._train(until=self._epoch + 1, checkpoint=self._file)
        found = None
        while (progress := _next_epoch(steps)) is not None:  # to the generator's end, where the checkpoint is whole
            found = progress
        return found

    def _train(self, *, until: int | None, checkpoint: Path | None) -> Generator[Progress, None, Any]:
        import torch

        from starsearch.training import train

        return train(
            self._tuned.architecture,
            data=self._tuned.data,
            recipe=self._tuned.decode(self._params),
            fidelity=self._tuned.fidelity,
            seed=self._tuned.seed,
            device="cuda" if torch.cuda.is_available() else "cpu",
            until=until,
            checkpoint=checkpoint,
        )


def _next_epoch(steps: Generator[Progress, None, Any]) -> Progress | None:
    """What is known after the next epoch; None after the last."""
    return next((progress for progress in steps if progress.epoch is not None), None)

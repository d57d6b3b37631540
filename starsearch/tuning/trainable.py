"""One recipe's training as Ray Tune runs it: an actor that trains an epoch a step, and never sees the study."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from starsearch.data import DataSet
from starsearch.errors import StudyError
from starsearch.families.family import Architecture
from starsearch.progress import Progress
from starsearch.recipe import Recipe
from starsearch.search.ray_executor import Requirements
from starsearch.study.spec import StudySpec

_CHECKPOINT = "training.pt"
_STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What all trials of a recipe search have in common.

    Attributes:
        spec: the study. Its seed is the same for every training: recipes differ, weights and order of images do not.
        changing: whether recipes change in the middle of a training (Population Based Training), which then is kept in
            a checkpoint after every epoch.
    """

    spec: StudySpec
    architecture: Architecture
    data: DataSet
    threads: int
    requirements: Requirements
    changing: bool

    def decode(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe that a trial's params stand for."""
        return self.spec.space.decode(params, self.spec.recipe).recipe

    def check(self) -> None:
        """Read an image of either split, as a worker's node must be able to."""
        for split in (self.data.train, self.data.validation):
            split.read(0)


class RecipeTraining(Trainable):
    """Trains a network by the recipe of its config, an epoch a step.

    A result holds `epoch`, what `train` says after it (`top1_percent`, …), the top-1 so far as `curve`, `seconds`, and
    as `schedule` the params it was trained by and since which epoch: more than one where another training was taken
    over or the recipe changed.
    """

    _tuned: Tuned
    _schedule: list[dict[str, Any]]
    _curve: dict[str, float]  # by epoch, as JSON has its keys
    _steps: Generator[Progress, None, Any] | None
    _epoch: int
    _seconds: float
    _file: Path

    # Ray calls it with the keywords of `tune.with_parameters`.
    def setup(self, config: dict[str, Any], *, tuned: Tuned) -> None:  # type: ignore[override]
        """Check this node, and get ready to train by `config`."""
        import torch

        tuned.requirements.check(tuned)  # type: ignore[arg-type] # of an evaluator it asks for `check` alone
        torch.set_num_threads(tuned.threads)
        self._tuned = tuned
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Train another recipe in the same process, which has the images decoded."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train for an epoch."""
        began = time.monotonic()
        progress = self._train_changing() if self._tuned.changing else _next_epoch(self._whole_training())
        assert progress is not None, "a training that has ended is not stepped again"
        assert progress.epoch is not None
        self._epoch, self._seconds = progress.epoch, self._seconds + time.monotonic() - began
        self._curve[str(progress.epoch)] = progress.values["top1_percent"]
        is_done = self._epoch >= self._tuned.spec.num_epochs
        return {**progress.values, **self._state(), "done": is_done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Leave the training as it is after its last epoch."""
        Path(checkpoint_dir, _STATE).write_text(json.dumps(self._state()), encoding="utf-8")
        if self._file.exists():
            shutil.copy(self._file, Path(checkpoint_dir, _CHECKPOINT))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume a training, this trial's own or another's, by this trial's recipe."""
        state = json.loads(Path(checkpoint, _STATE).read_text(encoding="utf-8"))
        self._epoch, self._curve, self._seconds = state["epoch"], state["curve"], state["seconds"]
        old, new = state["schedule"][-1]["params"], self._schedule[-1]["params"]
        changed = [] if old == new else [{"since": self._epoch + 1, "params": new}]
        self._schedule = state["schedule"] + changed
        if Path(checkpoint, _CHECKPOINT).exists():
            shutil.copy(Path(checkpoint, _CHECKPOINT), self._file)
            hand_over(self._file, old=self._recipe_of(old), new=self._recipe_of(new))

    def _state(self) -> dict[str, Any]:
        kept = {"epoch": self._epoch, "seconds": self._seconds}
        return {**kept, "curve": dict(self._curve), "schedule": list(self._schedule)}

    def _begin(self, params: Mapping[str, Any]) -> None:
        self._schedule = [{"since": 1, "params": dict(params)}]
        self._curve = {}
        self._steps = None
        self._epoch, self._seconds = 0, 0.0
        self._file = Path(self.logdir, _CHECKPOINT)
        self._file.unlink(missing_ok=True)

    def _recipe_of(self, params: Mapping[str, Any]) -> Recipe:
        """As `train` trains by it: the fidelity says for how long."""
        recipe, epochs = self._tuned.decode(params), self._tuned.spec.fidelity.epochs
        return recipe if epochs is None else replace(recipe, epochs=epochs)

    def _whole_training(self) -> Generator[Progress, None, Any]:
        if self._steps is None:
            self._steps = self._train(until=None, checkpoint=None)
        return self._steps

    def _train_changing(self) -> Progress | None:
        """One more epoch from the checkpoint; the last one writes none, and none resumes from there."""
        steps = self._train(until=self._epoch + 1, checkpoint=self._file)
        found = None
        while (progress := _next_epoch(steps)) is not None:  # to the generator's end, where the checkpoint is whole
            found = progress
        return found

    def _train(self, *, until: int | None, checkpoint: Path | None) -> Generator[Progress, None, Any]:
        from starsearch.training import Hardware, find_device, train

        tuned, fidelity = self._tuned, self._tuned.spec.fidelity
        return train(
            tuned.architecture,
            data=tuned.data,
            recipe=tuned.decode(self._schedule[-1]["params"]),
            fidelity=fidelity,
            seed=tuned.spec.seed,
            until=until,
            checkpoint=checkpoint,
            hardware=Hardware(device=find_device(), precision=fidelity.precision, accumulate=fidelity.accumulate),
        )


def _next_epoch(steps: Generator[Progress, None, Any]) -> Progress | None:
    """What is known after the next epoch; None after the last."""
    return next((progress for progress in steps if progress.epoch is not None), None)


def hand_over(file: Path, *, old: Recipe, new: Recipe) -> None:
    """Make the checkpoint of a training by `old` one from which `train` resumes by `new`.

    The schedule's learning rate follows the new recipe by itself; the optimiser's weight decay lies in its state and is
    changed there, where timm keeps the parameters that are not decayed in a group of their own, before the others.
    """
    import torch

    from starsearch.training.checkpoint import describe_training, load_checkpoint, save_checkpoint

    if old == new:
        return
    of: dict[str, str] = torch.load(file, map_location="cpu", weights_only=True)["of"]
    checkpoint = load_checkpoint(file, of={**of, **describe_training(recipe=old)})
    if checkpoint is None:
        raise StudyError(f"The checkpoint {file.name} is not of a training by {old}, so none can resume from it.")
    groups = checkpoint["optimisation"]["optimizer"]["param_groups"]
    for group in [group for group in groups if group["weight_decay"]] or groups[-1:]:
        group["weight_decay"] = new.weight_decay
    save_checkpoint({**checkpoint, "of": {**of, **describe_training(recipe=new)}}, file)

"""`train`: the one training loop, a generator of progress."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from timm.utils import random_seed

from starsearch.architecture import Architecture, format_architecture
from starsearch.data import DataSet
from starsearch.data.batches import Batches, training_batches, validation_batches
from starsearch.errors import TimeLimitError, TrainingDivergedError
from starsearch.measurement import Progress
from starsearch.models import StarNet, build_model
from starsearch.recipe import Fidelity, Recipe
from starsearch.training.checkpoint import (
    Checkpoint,
    describe_training,
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from starsearch.training.optimisation import Optimisation
from starsearch.training.validation import Accuracy, validate

T = TypeVar("T")
_PROGRESS_EVERY_S = 1.0
_KEPT_EVERY_S = 30.0  # a checkpoint of StarNet-S4 with its optimiser's moments has 90 MB
_LOSS_CHECKED_EVERY = 10  # steps: reading the loss from a GPU makes the CPU wait for it
_VALIDATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A trained network.

    Attributes:
        model: in eval mode, on the CPU; its weights are the moving average's where the recipe keeps one.
        top1_percent, top5_percent: of the last epoch, on the validation images; top-5 of n < 5 classes is top-n.
        epochs: trained in all, cool-down included.
        images_per_second: trained, validation not counted.
        seconds: of the whole training with its validations, without decoding images.
    """

    model: StarNet
    top1_percent: float
    top5_percent: float
    epochs: int
    images_per_second: float
    seconds: float


def train(
    architecture: Architecture,
    *,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    seed: int,
    device: str = "cpu",
    until: int | None = None,
    checkpoint: Path | None = None,
    lineage: str = "",
) -> Generator[Progress, None, TrainingResult]:
    """Train a network by a recipe at a fidelity; yields progress about every second and after each epoch.

    The global random states of torch, NumPy and Python are seeded: the same arguments on the same CPU give the same
    result to the bit, as long as nothing else draws from them between two steps of the generator.

    Args:
        architecture: of the network.
        data: what it is trained and validated on.
        recipe: how; the fidelity may override its epochs.
        fidelity: resolution, samples, epochs, stem stride and time limit.
        seed: of the weights, the order of images, augmentation and the choice of samples.
        device: of torch.
        until: epochs after which it stops; None for its end. The schedule is the whole training's.
        checkpoint: file from which it goes on where it is there, and in which it is kept after an epoch now and then
            and when it stops before its end; None for neither. Between the same epochs `fidelity` may have another
            resolution or other samples, as `lineage` says. Gone on with, it ends as if it had not stopped, to the bit.
        lineage: further conditions of the whole training, in words; a checkpoint of others is not taken.

    Raises:
        DataError: there are fewer images than a batch, or too many are unreadable.
        TrainingDivergedError: the loss became NaN or infinite.
        TimeLimitError: it took longer than `fidelity.time_limit_s`.
        EvaluationError: the recipe cannot be carried out.
        StudyError: the checkpoint cannot be written.
    """
    recipe = recipe if fidelity.epochs is None else replace(recipe, epochs=fidelity.epochs)
    training, validation = yield from _load(data, recipe, fidelity, seed)
    random_seed(seed)
    model = build_model(
        architecture,
        num_classes=len(data.classes),
        in_chans=data.in_chans,
        drop_rate=recipe.drop_rate,
        drop_path_rate=recipe.drop_path,
        stem_stride=fidelity.stem_stride,
        initialization=recipe.initialization,
    )
    model = model.to(device).to(memory_format=torch.channels_last)
    optimisation = Optimisation(model, recipe, steps_per_epoch=len(training))
    run = _Run(optimisation, training, batch_size=recipe.batch_size, device=device, time_limit_s=fidelity.time_limit_s)
    last = optimisation.num_epochs if until is None else min(until, optimisation.num_epochs)
    of = describe_training(
        architecture=format_architecture(architecture),
        recipe=recipe,
        seed=seed,
        data=data.fingerprint,
        lineage=lineage,
    )
    keeper = None if checkpoint is None else _Keeper(checkpoint, of, run, last=last)
    accuracy = keeper.restore() if keeper is not None else None
    for epoch in range(run.epoch + 1, last + 1):
        loss = yield from run.train_epoch(epoch)
        accuracy = yield from run.validate(epoch, validation)
        if keeper is not None:
            keeper.keep(accuracy)
        yield run.report(epoch, accuracy, loss)
    assert accuracy is not None, "a training has an epoch"
    return TrainingResult(
        model=optimisation.judged_model.to("cpu").eval(),
        top1_percent=accuracy.top1_percent,
        top5_percent=accuracy.top5_percent,
        epochs=run.epoch,
        images_per_second=run.images_per_second,
        seconds=run.seconds,
    )


def _load(
    data: DataSet, recipe: Recipe, fidelity: Fidelity, seed: int
) -> Generator[Progress, None, tuple[Batches, Batches]]:
    """The batches of both splits, decoded where they are kept in memory."""
    training = yield from _reading(
        training_batches(data, recipe, resolution=fidelity.resolution, samples=fidelity.samples, seed=seed)
    )
    validation = yield from _reading(
        validation_batches(
            data,
            resolution=fidelity.resolution,
            samples=fidelity.validation_samples,
            seed=seed,
            batch_size=max(recipe.batch_size, _VALIDATION_BATCH),
        )
    )
    return training, validation


def _reading(shares: Generator[float, None, T]) -> Generator[Progress, None, T]:
    """The same generator with progress in place of shares; reading is short beside the training, so it stays at 0."""
    while True:
        try:
            next(shares)
        except StopIteration as stop:
            value: T = stop.value
            return value
        yield Progress(fraction=0.0, stage="reading images")


class _Keeper:
    """Keeps a training in its checkpoint, and finds it there."""

    def __init__(self, path: Path, of: str, run: _Run, *, last: int) -> None:
        self._path = path
        self._of = of
        self._run = run
        self._last = last
        self._kept = time.monotonic()

    def restore(self) -> Accuracy | None:
        """Let the run go on from the checkpoint; its last accuracy, or None where it begins."""
        found = load_checkpoint(self._path, of=self._of)
        if found is None or found.epoch > self._last:
            return None
        self._run.restore(found)
        set_random_states(found.random)
        return Accuracy(**found.accuracy)

    def keep(self, accuracy: Accuracy) -> None:
        """Write the checkpoint, if the training stops here before its end or the last is a while ago."""
        stops = self._run.epoch == self._last < self._run.num_epochs
        ends = self._run.epoch == self._run.num_epochs
        if ends or not (stops or time.monotonic() - self._kept >= _KEPT_EVERY_S):
            return
        save_checkpoint(self._run.checkpoint(self._of, accuracy), self._path)
        self._kept = time.monotonic()


class _Run:
    """The clock and the counters of one training."""

    def __init__(
        self,
        optimisation: Optimisation,
        training: Batches,
        *,
        batch_size: int,
        device: str,
        time_limit_s: float | None,
    ) -> None:
        self._optimisation = optimisation
        self._training = training
        self._batch_size = batch_size
        self._device = device
        self._time_limit_s = time_limit_s
        self._started = self._reported = time.monotonic()
        self._trained_s = 0.0
        self._num_images = 0
        self._steps = 0  # of this run: a training that goes on has had more
        self._first_epoch = 1
        self.epoch = 0

    @property
    def num_epochs(self) -> int:
        """Of the whole training."""
        return self._optimisation.num_epochs

    def checkpoint(self, of: str, accuracy: Accuracy) -> Checkpoint:
        """The training as it is now."""
        return Checkpoint(
            of=of,
            epoch=self.epoch,
            accuracy=asdict(accuracy),
            trained_s=self._trained_s,
            num_images=self._num_images,
            optimisation=self._optimisation.state(),
            random=random_states(),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there."""
        self._optimisation.restore(checkpoint.optimisation, epochs=checkpoint.epoch)
        self._trained_s, self._num_images = checkpoint.trained_s, checkpoint.num_images
        self.epoch = checkpoint.epoch
        self._first_epoch = checkpoint.epoch + 1

    @property
    def seconds(self) -> float:
        """Since the training began, or went on."""
        return time.monotonic() - self._started

    @property
    def images_per_second(self) -> float:
        """Trained so far, validation not counted."""
        return self._num_images / max(self._trained_s, 1e-9)

    @property
    def _fraction(self) -> float:
        """Of the training steps; the bar stands still while it validates, which is short."""
        return (self._first_epoch - 1 + self._steps / len(self._training)) / self._optimisation.num_epochs

    def train_epoch(self, epoch: int) -> Generator[Progress, None, float]:
        """A pass over the training images; returns the mean loss."""
        self._optimisation.model.train()
        total, count = torch.zeros((), device=self._device), 0
        began = time.monotonic()
        for images, targets in self._training:
            images, targets = images.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)
            total += self._optimisation.step(images, targets)
            count += 1
            self._steps += 1
            self._num_images += self._batch_size
            if count % _LOSS_CHECKED_EVERY == 0 or count == len(self._training):
                self._check_loss(total.item(), epoch)
            self._check_time(epoch)
            if self._is_progress_due():
                self._trained_s += time.monotonic() - began
                yield Progress(fraction=self._fraction, stage="training")
                began = time.monotonic()
        self._trained_s += time.monotonic() - began
        self.epoch = epoch
        return total.item() / count

    def validate(self, epoch: int, batches: Batches) -> Generator[Progress, None, Accuracy]:
        """A pass over the validation images."""
        shares = validate(self._optimisation.judged_model, batches, device=self._device)
        while True:
            try:
                next(shares)
            except StopIteration as stop:
                accuracy: Accuracy = stop.value
                return accuracy
            self._check_time(epoch)
            if self._is_progress_due():
                yield Progress(fraction=self._fraction, stage="validation")

    def report(self, epoch: int, accuracy: Accuracy, loss: float) -> Progress:
        """What is known after an epoch."""
        self._reported = time.monotonic()
        values = {
            "top1_percent": accuracy.top1_percent,
            "top5_percent": accuracy.top5_percent,
            "train_loss": loss,
            "learning_rate": self._optimisation.learning_rate,
            "images_per_second": self.images_per_second,
        }
        return Progress(fraction=self._fraction, stage="validation", epoch=epoch, values=values)

    def _is_progress_due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < _PROGRESS_EVERY_S:
            return False
        self._reported = now
        return True

    def _check_loss(self, total: float, epoch: int) -> None:
        if not math.isfinite(total):
            raise TrainingDivergedError(
                f"The training loss became {total} in epoch {epoch}. "
                "A smaller lr, a longer warm-up or clip_grad may help."
            )

    def _check_time(self, epoch: int) -> None:
        if self._time_limit_s is not None and self.seconds > self._time_limit_s:
            raise TimeLimitError(
                f"The training took longer than its time limit of {self._time_limit_s:g} s; it was in epoch {epoch} "
                f"of {self._optimisation.num_epochs}."
            )

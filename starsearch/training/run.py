"""`Run`: the epochs of one training, step by step, with its clock and its counters."""

from __future__ import annotations

import math
import time
from collections.abc import Generator

import torch

from starsearch.data.batches import Batches
from starsearch.errors import TimeLimitError, TrainingDivergedError, WorkerLostError
from starsearch.progress import Progress
from starsearch.training.evaluate import Accuracy, validate
from starsearch.training.hardware import Hardware
from starsearch.training.keeping import Keeper, Position
from starsearch.training.optimisation import Optimisation
from starsearch.training.ranks import Ranks

_PROGRESS_EVERY_S = 1.0
# Steps between two at which the loss is looked at and, where there are several, the ranks talk of what else there is:
# reading a loss from a GPU makes the CPU wait for it.
_LOOKED_AT_EVERY = 10


class Run:
    """Trains and validates, epoch by epoch.

    Args:
        optimisation: the network on its way.
        training: the batches of a pass.
        position: where it begins; moved along.
        keeper: who keeps it, or None.
        batch_size: images a step, of all ranks.
        hardware: what it runs on.
        ranks: that train together.
        time_limit_s: seconds after which it fails, or None.
    """

    def __init__(
        self,
        optimisation: Optimisation,
        training: Batches,
        *,
        position: Position,
        keeper: Keeper | None,
        batch_size: int,
        hardware: Hardware,
        ranks: Ranks,
        time_limit_s: float | None,
    ) -> None:
        self._optimisation = optimisation
        self._training = training
        self._position = position
        self._keeper = keeper
        self._batch_size = batch_size
        self._hardware = hardware
        self._ranks = ranks
        self._time_limit_s = time_limit_s
        self._started = self._reported = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the training began, or went on."""
        return time.monotonic() - self._started

    @property
    def images_per_second(self) -> float:
        """Trained so far, validation not counted."""
        return self._position.num_images / max(self._position.trained_s, 1e-9)

    @property
    def _epoch(self) -> int:
        """The one under way."""
        return self._position.epoch + 1

    @property
    def _fraction(self) -> float:
        """Of the training steps; the bar stands still while it validates, which is short."""
        position = self._position
        return (position.epoch + position.step / len(self._training)) / self._optimisation.num_epochs

    def run_epoch(self, validation: Batches) -> Generator[Progress, None, None]:
        """Train and validate an epoch, or what is left of it; yields progress, at its end its report."""
        try:
            loss = yield from self._train()
            accuracy = yield from self._validate(validation)
        except WorkerLostError:
            if self._keeper is not None:
                self._keeper.after_loss_of_worker()
            raise
        position = self._position
        position.epoch, position.step, position.accuracy = position.epoch + 1, 0, accuracy
        position.loss = torch.zeros_like(position.loss)
        position.report = {
            "top1_percent": accuracy.top1_percent,
            "top5_percent": accuracy.top5_percent,
            "train_loss": loss,
            "learning_rate": self._optimisation.learning_rate,
            "images_per_second": self.images_per_second,
        }
        if self._keeper is not None:
            self._keeper.after_epoch()
        yield self.report()

    def report(self) -> Progress:
        """What is known after the last epoch."""
        self._reported = time.monotonic()
        position = self._position
        assert position.report is not None
        return Progress(fraction=self._fraction, stage="validation", epoch=position.epoch, values=position.report)

    def _train(self) -> Generator[Progress, None, float]:
        """A pass over the training images; returns the mean loss."""
        self._optimisation.model.train()
        position, began = self._position, time.monotonic()
        for images, targets in self._training.begin(self._epoch, start_batch=position.step):
            position.loss += self._step(images, targets)
            self._ranks.note_step()
            position.step += 1
            position.num_images += self._batch_size
            looks = position.step % _LOOKED_AT_EVERY == 0 or position.step == len(self._training)
            if looks:
                self._check_loss()
            self._check_time()
            position.trained_s, began = position.trained_s + time.monotonic() - began, time.monotonic()
            if self._keeper is not None and (looks or self._ranks.is_alone):
                self._keeper.after_step()
            if self._is_progress_due():
                yield self._progress("training")
            began = time.monotonic()
        return self._mean_loss()

    def _step(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        try:
            return self._optimisation.step(images, targets)
        except torch.OutOfMemoryError as error:
            raise self._hardware.out_of_memory(self._batch_size) from error

    def _validate(self, batches: Batches) -> Generator[Progress, None, Accuracy]:
        """A pass over the validation images."""
        self._ranks.average_batch_norms(self._optimisation.model)
        if self._optimisation.ema is not None:
            self._ranks.average_batch_norms(self._optimisation.ema.module)
        shares = validate(
            self._optimisation.judged_model,
            batches,
            hardware=self._hardware,
            ranks=self._ranks,
        )
        while True:
            try:
                next(shares)
            except StopIteration as stop:
                accuracy: Accuracy = stop.value
                return accuracy
            self._check_time()
            if self._is_progress_due():
                yield self._progress("validation")

    def _progress(self, stage: str) -> Progress:
        values = {"in_epoch": float(self._epoch), "images_per_second": self.images_per_second}
        return Progress(fraction=self._fraction, stage=stage, values=values)

    def _is_progress_due(self) -> bool:
        now = time.monotonic()
        if now - self._reported < _PROGRESS_EVERY_S:
            return False
        self._reported = now
        return True

    def _mean_loss(self) -> float:
        """Over the steps of the epoch so far, and over the ranks."""
        total = float(self._ranks.sum(self._position.loss).item())
        return total / (max(1, self._position.step) * self._ranks.count)

    def _check_loss(self) -> None:
        loss = self._mean_loss()
        if not math.isfinite(loss):
            kept = "" if self._keeper is None else self._keeper.lost_nothing
            raise TrainingDivergedError(
                f"The training loss became {loss} in epoch {self._epoch}. "
                f"A smaller lr, a longer warm-up or clip_grad may help.{kept}"
            )

    def _check_time(self) -> None:
        if self._time_limit_s is not None and self.seconds > self._time_limit_s:
            raise TimeLimitError(
                f"The training took longer than its time limit of {self._time_limit_s:g} s; it was in epoch "
                f"{self._epoch} of {self._optimisation.num_epochs}."
            )

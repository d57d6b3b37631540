"""`train`: the one training loop, a generator of progress."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from timm.utils import random_seed

from starsearch.data import DataSet
from starsearch.data.batches import Batches, RankShare, training_batches, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import TimeLimitError, TrainingDivergedError, WorkerLostError
from starsearch.families.family import Architecture
from starsearch.families.network import Network
from starsearch.families.text import format_architecture
from starsearch.progress import Progress, mapped
from starsearch.recipe import Fidelity, Recipe
from starsearch.resolution import area
from starsearch.training.checkpoint import describe_training
from starsearch.training.distillation import open_teacher
from starsearch.training.evaluate import Accuracy, validate
from starsearch.training.hardware import Hardware, judge_compiling
from starsearch.training.networks import build_network, plain_network
from starsearch.training.optimisation import Optimisation
from starsearch.training.ranks import Ranks
from starsearch.training.state import Keeper, Keeping, TrainingState

_VALIDATION_BATCH, _MOST_PIXELS = 256, 1024 * 64**2  # on a GPU, which is to have more to do than launching takes
_PROGRESS_EVERY_S = 1.0
# Steps between two at which the loss is looked at and, if there are several, the ranks talk of what else there is:
# reading a loss from a GPU makes the CPU wait for it.
_LOOKED_AT_EVERY = 10
_JUDGED_S = 1.0  # of training, by whose speed it is predicted how long the rest takes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A trained network.

    Attributes:
        model: the network in eval mode, on the CPU, with the moving average's weights if the recipe keeps one.
        top1_percent, top5_percent: validated after the last epoch; top-5 of n < 5 classes is top-n.
        best_top1_percent: the best of all epochs.
        epochs: how many were trained, cool-down included.
        images_per_second: training speed, validation not counted.
        seconds: the time of training and validation, without decoding images for memory.
        peak_gpu_gb: the most memory that torch held of the GPU, in 10⁹ bytes; None on a CPU.
    """

    model: Network
    top1_percent: float
    top5_percent: float
    best_top1_percent: float
    num_validation_images: int
    epochs: int
    images_per_second: float
    seconds: float
    peak_gpu_gb: float | None


def train(
    architecture: Architecture,
    *,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    seed: int,
    device: str = "cpu",
    until: int | None = None,
    checkpoint: Path | Keeping | None = None,
    lineage: str = "",
    initial: Mapping[str, torch.Tensor] | None = None,
    hardware: Hardware | None = None,
) -> Generator[Progress, None, TrainingResult]:
    """Train a network by a recipe at a fidelity; yield progress about every second and after each epoch.

    Each of several ranks calls it with its own `hardware`, in a process group (`joined_ranks`); only the first writes.
    The global random states of torch, NumPy and Python are seeded: the same arguments on the same CPU give a
    bit-identical result, as long as nothing else draws from them between two steps of the generator.

    Args:
        fidelity: resolution, samples, stem stride, time limit, and epochs in place of the recipe's.
        seed: decides the weights, the order of images, augmentation and the choice of samples.
        until: the epoch after which it stops; None for its end. The schedule is the whole training's.
        checkpoint: the file from which it resumes if it is there, and in which it is kept after an epoch now and then
            and when it stops before its end. Between the same epochs `fidelity` may have another resolution or other
            samples, as `lineage` says. A training that was resumed ends bit-identical to one that never stopped.
        lineage: further conditions of the whole training, in words; a checkpoint under others is not taken.
        initial: a state dict to begin with; None draws new weights. A checkpoint takes precedence.
        hardware: precision, ranks and more, in place of `device`.

    Raises:
        DataError: there are fewer images than a batch, or too many are unreadable.
        TrainingDivergedError: the loss became NaN or infinite.
        TimeLimitError: it took longer than `fidelity.time_limit_s`.
        EvaluationError: the recipe cannot be carried out, a GPU is out of memory, or `initial` does not fit.
        StudyError: the checkpoint cannot be written, or a lasting one is of another training.
        WorkerLostError: a process that reads images was killed.
        TrainingStoppedError: it was asked to stop, and its state is kept.
    """
    hardware = hardware or Hardware(device=device)
    recipe = recipe if fidelity.epochs is None else replace(recipe, epochs=fidelity.epochs)
    hardware.check(recipe.batch_size)
    ranks, on_gpu = Ranks(hardware), hardware.device_type == "cuda"
    if on_gpu and torch.cuda.is_initialized():  # else there is no peak yet
        torch.cuda.reset_peak_memory_stats(hardware.device)
    training, validation = yield from mapped(
        _load(data, recipe, fidelity, seed, hardware), lambda _: Progress(fraction=0.0, stage="reading images")
    )
    random_seed(seed)
    model = build_network(architecture, data, recipe, fidelity, hardware, initial)
    teacher = None if recipe.teacher is None else open_teacher(recipe.teacher, data, device=hardware.device)
    optimisation = Optimisation(model, recipe, steps_per_epoch=len(training), hardware=hardware, teacher=teacher)
    if not ranks.is_alone:  # the weights are the same everywhere; what is drawn from here on is not
        random_seed(seed, hardware.rank)
    last = optimisation.num_epochs if until is None else min(until, optimisation.num_epochs)
    state = TrainingState(
        optimisation=optimisation,
        unreadable={split.name: split.unreadable for split in (data.train, data.validation)},
        loss=torch.zeros((), device=hardware.device),
    )
    run = _Run(state, training, validation, hardware, ranks, recipe.batch_size, last, fidelity.time_limit_s)
    if checkpoint is not None:
        identity = describe_training(
            architecture=format_architecture(architecture),
            recipe=recipe,
            seed=seed,
            data=data.fingerprint,
            lineage=lineage,
        )
        keeping = Keeping(last=checkpoint) if isinstance(checkpoint, Path) else checkpoint
        run.keeper = Keeper(keeping, identity=identity, state=state, ranks=ranks, until=last)
        run.keeper.restore(seed=seed)
        if run.keeper.repeats_last_report:
            yield run.report()
    try:
        while state.epoch < last:
            yield from run.run_epoch()
    finally:
        optimisation.end()
    assert state.accuracy is not None, "a training has an epoch"
    return TrainingResult(
        model=plain_network(optimisation.judged_model),
        top1_percent=state.accuracy.top1_percent,
        top5_percent=state.accuracy.top5_percent,
        best_top1_percent=state.best_top1_percent,
        num_validation_images=state.accuracy.num_images,
        epochs=state.epoch,
        images_per_second=run.images_per_second,
        seconds=run.seconds,
        peak_gpu_gb=torch.cuda.max_memory_reserved(hardware.device) / 1e9 if on_gpu else None,
    )


def _load(
    data: DataSet, recipe: Recipe, fidelity: Fidelity, seed: int, hardware: Hardware
) -> Generator[float, None, tuple[Batches, Batches]]:
    """Return the batches of both splits, decoded if they are kept in memory."""
    share = RankShare(
        rank=hardware.rank,
        ranks=hardware.world_size,
        device=hardware.device,
        workers=hardware.workers,
        gather=Ranks(hardware).gather,
    )
    training = yield from training_batches(
        data, recipe, resolution=fidelity.resolution, samples=fidelity.samples, seed=seed, share=share
    )
    at_once = _MOST_PIXELS // area(fidelity.resolution) if share.on_gpu else _VALIDATION_BATCH
    validation = yield from validation_batches(
        data,
        Preprocessing.of(data, fidelity),
        samples=fidelity.validation_samples,
        seed=seed,
        batch_size=max(hardware.micro_batch(recipe.batch_size), at_once),
        share=share,
    )
    return training, validation


@dataclass(slots=True)
class _Run:
    """Trains and validates, epoch by epoch, with its clock; moves `state` along."""

    state: TrainingState
    training: Batches
    validation: Batches
    hardware: Hardware
    ranks: Ranks
    batch_size: int
    last: int
    time_limit_s: float | None
    keeper: Keeper | None = None
    started: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)
    # Seconds and images before the steps by which it is judged whether to compile; the first ones are slower.
    before: tuple[float, int] | None = None
    is_judged: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def images_per_second(self) -> float:
        return self.state.num_images / max(self.state.trained_s, 1e-9)

    def run_epoch(self) -> Generator[Progress, None, None]:
        """Train and validate an epoch, or what is left of it; yield progress, at its end its report."""
        state = self.state
        try:
            loss = yield from self._train()
            accuracy = yield from self._validate()
        except torch.OutOfMemoryError as error:
            raise self.hardware.out_of_memory(self.batch_size) from error
        except WorkerLostError:
            if self.keeper is not None:
                self.keeper.after_loss_of_worker()
            raise
        state.epoch, state.step, state.accuracy = state.epoch + 1, 0, accuracy
        state.loss = torch.zeros_like(state.loss)
        state.report = {
            "top1_percent": accuracy.top1_percent,
            "top5_percent": accuracy.top5_percent,
            "train_loss": loss,
            "learning_rate": state.optimisation.learning_rate,
            "images_per_second": self.images_per_second,
        }
        if self.keeper is not None:
            self.keeper.after_epoch()
        yield self.report()

    def report(self) -> Progress:
        """Return what is known after the last epoch."""
        self.reported = time.monotonic()
        assert self.state.report is not None
        return replace(self._progress("validation"), epoch=self.state.epoch, values=self.state.report)

    def _train(self) -> Generator[Progress, None, float]:
        """Go over the training images; return the mean loss."""
        state, began = self.state, time.monotonic()
        state.optimisation.model.train()
        for images, targets in self.training.begin(state.epoch + 1, start_batch=state.step):
            state.loss += state.optimisation.step(images, targets)
            self.ranks.note_step()
            state.step += 1
            state.num_images += self.batch_size
            looks = state.step % _LOOKED_AT_EVERY == 0 or state.step == len(self.training)
            if looks:
                self._check_loss()
            self._check_time()
            state.trained_s, began = state.trained_s + time.monotonic() - began, time.monotonic()
            if looks and self.hardware.may_compile and not self.is_judged:
                self._judge_compiling()
            if self.keeper is not None and (looks or self.ranks.is_alone):
                self.keeper.after_step()
            yield from self._progress_if_due("training")
            began = time.monotonic()
        return self._mean_loss()

    def _judge_compiling(self) -> None:
        """Compile the step where the rest of the training, at the speed so far, is long enough for it."""
        state = self.state
        self.before = self.before or (state.trained_s, state.num_images)
        seconds, images = state.trained_s - self.before[0], state.num_images - self.before[1]
        if not images or seconds < _JUDGED_S:
            return
        self.is_judged = True
        left = (self.last - state.epoch) * len(self.training) - state.step
        pays, why = judge_compiling(left * self.batch_size * seconds / images)
        if pays:
            state.optimisation.compile()
        if pays or self.hardware.compile:  # where nobody asked, only what is done is said
            warnings.warn(why, stacklevel=2)

    def _validate(self) -> Generator[Progress, None, Accuracy]:
        optimisation = self.state.optimisation
        self.ranks.average_batch_norms(optimisation.model)
        if optimisation.ema is not None:
            self.ranks.average_batch_norms(optimisation.ema.module)
        steps = validate(optimisation.judged_model, self.validation, hardware=self.hardware, ranks=self.ranks)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                accuracy: Accuracy = stop.value
                return accuracy
            self._check_time()
            yield from self._progress_if_due("validation")

    def _progress_if_due(self, stage: str) -> Generator[Progress, None, None]:
        if time.monotonic() - self.reported >= _PROGRESS_EVERY_S:
            self.reported = time.monotonic()
            yield self._progress(stage)

    def _progress(self, stage: str) -> Progress:
        """Return how much of the training is done; the bar stands still while it validates, which is short."""
        state = self.state
        return Progress(
            fraction=(state.epoch + state.step / len(self.training)) / state.optimisation.num_epochs,
            stage=stage,
            values={"in_epoch": float(state.epoch + 1), "images_per_second": self.images_per_second},
        )

    def _mean_loss(self) -> float:
        """Return the mean over the steps of the epoch so far, and over the ranks."""
        total = float(self.ranks.sum(self.state.loss).item())
        return total / (max(1, self.state.step) * self.ranks.count)

    def _check_loss(self) -> None:
        loss = self._mean_loss()
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The training loss became {loss} in epoch {self.state.epoch + 1}. A smaller lr, a longer warm-up or "
                f"clip_grad may help.{'' if self.keeper is None else self.keeper.lost_nothing}"
            )

    def _check_time(self) -> None:
        if self.time_limit_s is not None and self.seconds > self.time_limit_s:
            raise TimeLimitError(
                f"The training took longer than its time limit of {self.time_limit_s:g} s; it was in epoch "
                f"{self.state.epoch + 1} of {self.state.optimisation.num_epochs}."
            )

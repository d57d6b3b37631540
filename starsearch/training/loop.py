"""`train`: the one training loop, a generator of progress."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from timm.utils import random_seed

from starsearch.data import DataSet
from starsearch.data.batches import Batches, RankShare, training_batches, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.families.family import Architecture
from starsearch.families.network import Network
from starsearch.families.text import format_architecture
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, Recipe
from starsearch.training.checkpoint import describe_training
from starsearch.training.distillation import open_teacher
from starsearch.training.hardware import Hardware
from starsearch.training.keeping import Keeper, Keeping, Position
from starsearch.training.networks import build_network, plain_network
from starsearch.training.optimisation import Optimisation
from starsearch.training.ranks import Ranks
from starsearch.training.run import Run

T = TypeVar("T")
_VALIDATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A trained network.

    Attributes:
        model: in eval mode, on the CPU; its weights are the moving average's where the recipe keeps one.
        top1_percent, top5_percent: of the last epoch, on the validation images; top-5 of n < 5 classes is top-n.
        best_top1_percent: of all epochs.
        num_validation_images: that the accuracies were counted on.
        epochs: trained in all, cool-down included.
        images_per_second: trained, validation not counted.
        seconds: of the whole training with its validations, without decoding images.
    """

    model: Network
    top1_percent: float
    top5_percent: float
    best_top1_percent: float
    num_validation_images: int
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
    checkpoint: Path | Keeping | None = None,
    lineage: str = "",
    initial: Mapping[str, torch.Tensor] | None = None,
    hardware: Hardware | None = None,
) -> Generator[Progress, None, TrainingResult]:
    """Train a network by a recipe at a fidelity; yields progress about every second and after each epoch.

    Of several ranks each calls it with its own `hardware`, in a process group (`joined_ranks`); only the first writes.
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
        initial: weights to begin with, a state dict; None draws new ones. A checkpoint goes before them.
        hardware: precision, ranks and more, in place of `device`.

    Raises:
        DataError: there are fewer images than a batch, or too many are unreadable.
        TrainingDivergedError: the loss became NaN or infinite.
        TimeLimitError: it took longer than `fidelity.time_limit_s`.
        EvaluationError: the recipe cannot be carried out, a GPU is out of memory, or `initial` does not fit.
        StudyError: the checkpoint cannot be written, or a lasting one is of another training.
        WorkerLostError: a process that reads images was killed.
        TrainingStoppedError: it was asked to stop, and is kept.
    """
    hardware = hardware or Hardware(device=device)
    recipe = recipe if fidelity.epochs is None else replace(recipe, epochs=fidelity.epochs)
    hardware.check(recipe.batch_size)
    ranks = Ranks(hardware)
    training, validation = yield from _load(data, recipe, fidelity, seed, hardware)
    optimisation = _prepare(
        architecture, data, recipe, fidelity, seed, hardware, initial, steps_per_epoch=len(training)
    )
    last = optimisation.num_epochs if until is None else min(until, optimisation.num_epochs)
    position = Position(
        loss=torch.zeros((), device=hardware.device),
        unreadable={split.name: split.unreadable for split in (data.train, data.validation)},
    )
    keeper = None
    if checkpoint is not None:
        keeping = Keeping(last=checkpoint) if isinstance(checkpoint, Path) else checkpoint
        of = describe_training(
            architecture=format_architecture(architecture),
            recipe=recipe,
            seed=seed,
            data=data.fingerprint,
            lineage=lineage,
        )
        keeper = Keeper(keeping, of=of, position=position, optimisation=optimisation, ranks=ranks, until=last)
        keeper.restore(seed=seed)
    run = Run(
        optimisation,
        training,
        position=position,
        keeper=keeper,
        batch_size=recipe.batch_size,
        hardware=hardware,
        ranks=ranks,
        time_limit_s=fidelity.time_limit_s,
    )
    if keeper is not None and keeper.tells_again:
        yield run.report()
    while position.epoch < last:
        yield from run.run_epoch(validation)
    return _result(optimisation, position, run)


def _result(optimisation: Optimisation, position: Position, run: Run) -> TrainingResult:
    assert position.accuracy is not None, "a training has an epoch"
    return TrainingResult(
        model=plain_network(optimisation.judged_model),
        top1_percent=position.accuracy.top1_percent,
        top5_percent=position.accuracy.top5_percent,
        best_top1_percent=position.best_top1_percent,
        num_validation_images=position.accuracy.num_images,
        epochs=position.epoch,
        images_per_second=run.images_per_second,
        seconds=run.seconds,
    )


def _prepare(
    architecture: Architecture,
    data: DataSet,
    recipe: Recipe,
    fidelity: Fidelity,
    seed: int,
    hardware: Hardware,
    initial: Mapping[str, torch.Tensor] | None,
    *,
    steps_per_epoch: int,
) -> Optimisation:
    """The network at the beginning of its way, the random states seeded for it."""
    random_seed(seed)
    model = build_network(architecture, data, recipe, fidelity, hardware, initial)
    teacher = None if recipe.teacher is None else open_teacher(recipe.teacher, data, device=hardware.device)
    optimisation = Optimisation(model, recipe, steps_per_epoch=steps_per_epoch, hardware=hardware, teacher=teacher)
    if hardware.world_size > 1:  # the weights are the same everywhere; what is drawn from here on is not
        random_seed(seed, hardware.rank)
    return optimisation


def _load(
    data: DataSet, recipe: Recipe, fidelity: Fidelity, seed: int, hardware: Hardware
) -> Generator[Progress, None, tuple[Batches, Batches]]:
    """The batches of both splits, decoded where they are kept in memory."""
    share = RankShare(
        rank=hardware.rank,
        ranks=hardware.world_size,
        device=hardware.device,
        workers=hardware.workers,
        gather=Ranks(hardware).gather,
    )
    training = yield from _reading(
        training_batches(data, recipe, resolution=fidelity.resolution, samples=fidelity.samples, seed=seed, share=share)
    )
    validation = yield from _reading(
        validation_batches(
            data,
            Preprocessing.of(data, fidelity),
            samples=fidelity.validation_samples,
            seed=seed,
            batch_size=max(hardware.micro_batch(recipe.batch_size), _VALIDATION_BATCH),
            share=share,
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

"""Full trainings: carried out, gone on with, and what they have come to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.training_check import try_step
from starsearch.api.training_folder import TrainingFolder
from starsearch.api.training_job import TrainingJob
from starsearch.errors import EvaluationError, StudyError
from starsearch.families.family import count_macs, count_params
from starsearch.families.text import format_architecture
from starsearch.measurement import accuracy_measurement
from starsearch.progress import Progress, ignore

if TYPE_CHECKING:
    import torch

    from starsearch.data import DataSet
    from starsearch.training import Hardware, TrainingResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training has come to.

    Attributes:
        folder: of its files.
        architecture: one-line text.
        epochs: trained in all.
        top1_percent, top5_percent: of the last epoch.
        best_epoch, best_top1_percent, best_top5_percent: of the epoch whose weights are kept.
        best_top1_spread: standard error of `best_top1_percent`, of its validation images.
        images_per_second: trained, validation not counted.
        skipped: images that could not be read.
        load: the Python line that loads the best weights with timm.
    """

    folder: Path
    architecture: str
    epochs: int
    top1_percent: float
    top5_percent: float
    best_epoch: int
    best_top1_percent: float
    best_top1_spread: float = math.nan  # of a training that ended before it was written
    best_top5_percent: float
    images_per_second: float
    skipped: int
    load: str


def run_training(
    job: TrainingJob,
    *,
    watch: Callable[[Progress], None] = ignore,
    is_asked_to_stop: Callable[[], bool] | None = None,
) -> Trained | None:
    """Train, or go on with what the folder holds; in each of the processes that train together.

    Args:
        job: the training.
        watch: told of progress, on the first rank.
        is_asked_to_stop: asked between two steps; the training is kept then.

    Returns:
        What came out, on the first rank; None on others.

    Raises:
        TrainingStoppedError: it was asked to stop, and is kept.
        StarsearchError: the user's mistake or the machine's, in words; the last good state is kept.
    """
    from starsearch.training import Hardware
    from starsearch.training.ranks import joined_ranks, telling_of_lost_ranks

    with (
        joined_ranks(_on_this_machine(Hardware(**job.hardware))) as hardware,
        _alone_in(job.folder) if hardware.is_first else _quiet(),
        telling_of_lost_ranks(hardware, last=TrainingFolder(job.folder).last),
    ):
        return _train(job, hardware, watch, is_asked_to_stop)


def _train(
    job: TrainingJob,
    hardware: Hardware,
    watch: Callable[[Progress], None],
    is_asked_to_stop: Callable[[], bool] | None,
) -> Trained | None:
    from starsearch.data import open_data
    from starsearch.data.names import warn_of_left_out
    from starsearch.data.preprocessing import Validated
    from starsearch.training import Keeping, train

    data = open_data(job.data)
    if hardware.is_first:
        warn_of_left_out(data)
    folder = TrainingFolder(job.folder)
    initial = None if job.weights is None or folder.last.is_file() else _load_initial(job.weights, data)
    try_step(job, data, hardware)
    if hardware.is_first:
        folder.write_recipe(job.recipe)
    steps = train(
        job.architecture,
        data=data,
        recipe=job.recipe,
        fidelity=job.fidelity,
        seed=job.seed,
        checkpoint=Keeping(
            last=folder.last,
            best=folder.best,
            validated=Validated.on(data, job.fidelity),
            every_s=job.keep_every_s,
            lasting=True,
            is_asked_to_stop=is_asked_to_stop,
        ),
        lineage=_conditions(job),
        initial=initial,
        hardware=hardware,
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            return _finish(job, folder, data, hardware, stop.value) if hardware.is_first else None
        if hardware.is_first:
            if progress.epoch is not None:
                folder.add_epoch(progress)
            watch(progress)


def _on_this_machine(hardware: Hardware) -> Hardware:
    """On a GPU where there is one."""
    import torch

    return replace(hardware, device="cuda") if torch.cuda.is_available() else hardware


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder against a second training."""
    from filelock import FileLock, Timeout

    TrainingFolder(folder)  # made, or refused in words
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"Another training is at work in {folder}. Wait for it, or give another --out.") from None
    for remains in folder.glob("*.partial"):  # of a file that was being written when the training was killed
        remains.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """The first rank warns for all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _conditions(job: TrainingJob) -> str:
    """What a training rests on beside recipe, data and seed, in words."""
    fidelity = job.fidelity
    begun = "new weights" if job.weights is None else f"the weights of {job.weights.name} ({_digest(job.weights)})"
    return (
        f"{fidelity.resolution} px, stem stride {fidelity.stem_stride}, validation crop {fidelity.crop_pct}, "
        f"begun with {begun}"
    )


def _digest(file: Path) -> str:
    import hashlib

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:12]


def _load_initial(file: Path, data: DataSet) -> Mapping[str, torch.Tensor]:
    """A state dict in any of the files that timm reads, without a head of other classes; nothing in it is run."""
    from timm.models import load_state_dict

    from starsearch.api.weight_files import read_validated

    try:
        state: dict[str, torch.Tensor] = load_state_dict(str(file), use_ema=True)
    except Exception as error:  # torch's and safetensors' own, as they come
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EvaluationError(f"The weights {file} cannot be read: {said}") from error
    validated = read_validated(file)
    if validated is not None and tuple(validated.classes) != tuple(data.classes):
        return {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    return state


def _finish(
    job: TrainingJob, folder: TrainingFolder, data: DataSet, hardware: Hardware, result: TrainingResult
) -> Trained:
    """Export the best weights as timm loads them, write the summary."""
    from starsearch.data.preprocessing import Validated
    from starsearch.export import export_timm, needs_starsearch
    from starsearch.training.weight_file import load_weights

    best = folder.best_row()
    assert best is not None, "a training has an epoch"
    model = load_weights(folder.best)
    validated = Validated.on(data, job.fidelity)
    export_timm(model, folder.exported, preprocessing=validated.preprocessing, class_names=data.classes)
    folder.write_summary(
        {
            "architecture": format_architecture(job.architecture),
            "num_params": count_params(job.architecture, num_classes=len(data.classes)),
            "macs": count_macs(
                job.architecture,
                resolution=job.fidelity.resolution,
                num_classes=len(data.classes),
                stem_stride=job.fidelity.stem_stride,
            ),
            "data": f"{data.name} ({data.fingerprint})",
            "orientation": data.orientation,
            "resolution": job.fidelity.resolution,
            "crop_pct": job.fidelity.crop_pct,
            "stem_stride": job.fidelity.stem_stride,
            "seed": job.seed,
            "epochs": result.epochs,
            "top1_percent": result.top1_percent,
            "top5_percent": result.top5_percent,
            "best_epoch": int(best["epoch"]),
            "best_top1_percent": best["top1"],
            "best_top1_spread": accuracy_measurement(
                "top1_percent", best["top1"], num_images=result.num_validation_images
            ).spread,
            "best_top5_percent": best["top5"],
            "images_per_second": result.images_per_second,
            "seconds": folder.rows[-1]["seconds"],
            "device": hardware.device_type,
            "precision": hardware.precision,
            "ranks": hardware.world_size,
            "needs_starsearch": needs_starsearch(model),
            "validation_images": result.num_validation_images,
            "unreadable_images": list(data.skipped),
        }
    )
    return read_trained(job.folder)


def read_trained(folder: Path) -> Trained:
    """What the training in the folder has come to, as its summary says.

    Raises:
        StudyError: it has not ended.
    """
    files = TrainingFolder(folder)
    found = files.read_summary()
    imports = "import starsearch, timm" if found["needs_starsearch"] else "import timm"
    return Trained(
        folder=folder,
        skipped=len(found["unreadable_images"]),
        load=f'{imports}; model = timm.create_model("local-dir:{files.exported}", pretrained=True)',
        **{name: found[name] for name in Trained.__slots__ if name in found},
    )

"""A look at the data before a training takes its hours: classes, broken images, and whether decoding keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from starsearch.api.data_checking import DataCheck, check_data
from starsearch.api.training_job import TrainingJob
from starsearch.progress import Progress, ignore

if TYPE_CHECKING:
    import torch

    from starsearch.data import DataSet
    from starsearch.training import Hardware

_SAMPLES = 200  # images of each split
_STEPS = 3
_MOST_IMAGES = 64  # a step on a CPU


def check_training_data(
    job: TrainingJob, *, ranks: int = 1, watch: Callable[[Progress], None] = ignore
) -> DataCheck | None:
    """What there is to know of a training's data before it begins; None where it goes on, or images are in memory.

    Args:
        job: the training.
        ranks: that train together.
        watch: is told how far it is.

    Raises:
        DataError: the data set cannot be opened.
        EvaluationError: the GPU is out of memory with a batch.
    """
    import torch

    from starsearch.data import open_data
    from starsearch.training import Hardware

    data = open_data(job.data)
    if data.train.in_memory or (job.folder / "last.pt").exists():
        return None
    hardware = Hardware(device="cuda" if torch.cuda.is_available() else "cpu", world_size=ranks, **job.hardware)
    try_step(job, data, hardware)
    speed = partial(_measure_speed, job, data, hardware)
    return check_data(
        data,
        resolution=job.fidelity.resolution,
        workers=job.hardware.get("workers"),
        images_per_second=lambda: ranks * speed(),
        samples=_SAMPLES,
        watch=watch,
    )


def try_step(job: TrainingJob, data: DataSet, hardware: Hardware) -> None:
    """On a GPU try one step of the training's batch, before minutes go into preparing the data.

    Raises:
        EvaluationError: the GPU is out of memory with it.
    """
    import torch

    if hardware.device_type != "cuda":
        return
    try:
        with torch.random.fork_rng(devices=[]):
            float(_steps_on_noise(job, data, hardware, hardware.micro_batch(job.recipe.batch_size))())
    except torch.OutOfMemoryError as error:
        raise hardware.out_of_memory(job.recipe.batch_size) from error
    finally:
        torch.cuda.empty_cache()


def _measure_speed(job: TrainingJob, data: DataSet, hardware: Hardware) -> float:
    """Images a second that one rank trains on, by a few steps on noise."""
    import torch

    batch = hardware.micro_batch(job.recipe.batch_size)
    micro = max(2, batch if hardware.device_type == "cuda" else min(batch, _MOST_IMAGES))
    with torch.random.fork_rng(devices=[]):
        step = _steps_on_noise(job, data, hardware, micro)
        step()  # plans memory, chooses kernels
        began = time.monotonic()
        for _ in range(_STEPS):
            float(step())  # waits for the GPU
        seconds = time.monotonic() - began
    return float(_STEPS * micro / seconds)


def _steps_on_noise(job: TrainingJob, data: DataSet, hardware: Hardware, micro: int) -> Callable[[], torch.Tensor]:
    """Training steps of one rank on so many images of noise, each of which returns its loss."""
    import torch

    from starsearch.training.distillation import open_teacher
    from starsearch.training.networks import build_network
    from starsearch.training.optimisation import Optimisation

    alone = replace(hardware, world_size=1, rank=0, accumulate=1, compile=False, sync_batch_norm=False)
    recipe = replace(job.recipe, batch_size=micro, mixup=0.0, cutmix=0.0)  # which take no time, and no odd batch
    model = build_network(job.architecture, data, recipe, job.fidelity, alone, initial=None)
    teacher = None if recipe.teacher is None else open_teacher(recipe.teacher, data, device=alone.device)
    optimisation = Optimisation(model, recipe, steps_per_epoch=_STEPS + 1, hardware=alone, teacher=teacher)
    size = (micro, data.in_chans, job.fidelity.resolution, job.fidelity.resolution)
    images = torch.randn(size).to(alone.device).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(micro, dtype=torch.int64, device=alone.device)
    return lambda: optimisation.step(images, targets)

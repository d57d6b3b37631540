"""A look at the data before a training takes its hours: classes, broken images, and whether decoding keeps up."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from starsearch.api.data_checking import DataCheck, check_data
from starsearch.api.progress import ignore
from starsearch.api.training_job import TrainingJob
from starsearch.measurement import Progress

if TYPE_CHECKING:
    from starsearch.data import DataSet

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
    """
    from starsearch.data import open_data

    data = open_data(job.data)
    if data.train.in_memory or (job.folder / "last.pt").exists():
        return None
    speed = partial(_measure_speed, job, data)
    return check_data(
        data,
        resolution=job.fidelity.resolution,
        workers=job.hardware.get("workers"),
        images_per_second=lambda: ranks * speed(),
        samples=_SAMPLES,
        watch=watch,
    )


def _measure_speed(job: TrainingJob, data: DataSet) -> float:
    """Images a second that one rank trains on, by a few steps on noise."""
    import torch

    from starsearch.models import build_model
    from starsearch.training import Hardware
    from starsearch.training.optimisation import Optimisation

    device = "cuda" if torch.cuda.is_available() else "cpu"
    hardware = Hardware(device=device, precision=job.hardware.get("precision", "float32"))
    batch = job.recipe.batch_size if device == "cuda" else min(job.recipe.batch_size, _MOST_IMAGES)
    micro = max(2, batch // job.hardware.get("accumulate", 1) // 2 * 2)
    with torch.random.fork_rng():
        model = build_model(job.architecture, num_classes=len(data.classes), in_chans=data.in_chans).to(device)
        optimisation = Optimisation(
            model.to(memory_format=torch.channels_last), job.recipe, steps_per_epoch=_STEPS + 1, hardware=hardware
        )
        size = (micro, data.in_chans, job.fidelity.resolution, job.fidelity.resolution)
        images = torch.randn(size, device=device).contiguous(memory_format=torch.channels_last)
        targets = torch.zeros(micro, dtype=torch.int64, device=device)
        optimisation.step(images, targets)  # plans memory, chooses kernels
        began = time.monotonic()
        for _ in range(_STEPS):
            float(optimisation.step(images, targets))  # waits for the GPU
        seconds = time.monotonic() - began
    return float(_STEPS * micro / seconds)

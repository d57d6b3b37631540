"""Full trainings: run, resumed, and what they came to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.data_checking import DataCheck, check_data
from starsearch.api.training_job import TrainingFolder, TrainingJob, plan_training
from starsearch.data import DataSet, open_data
from starsearch.data.names import warn_of_left_out
from starsearch.data.preprocessing import Validated
from starsearch.export.format import TrainedNetwork, write_format
from starsearch.export.formats import formats
from starsearch.export.formats.timm import needs_starsearch
from starsearch.families.family import Architecture
from starsearch.families.text import format_architecture
from starsearch.measurement import accuracy_measurement
from starsearch.progress import Progress, follow, ignore
from starsearch.records.lock import alone
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from starsearch.training import Hardware, TrainingResult
    from starsearch.training.transfer import LayerStart

_CHECKED_IMAGES = 200  # of each split


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training came to, as its summary.json says.

    Attributes:
        num_params, macs: cost of the network with the data's classes at the training's resolution.
        top1_percent, top5_percent: accuracy after the last epoch.
        best_epoch, best_top1_percent, best_top5_percent: the epoch whose weights are kept.
        best_top1_spread: standard error of `best_top1_percent` over its validation images.
        images_per_second: trained, validation not counted.
        ranks: processes that trained together.
        peak_gpu_gb: the most memory that torch held of the first one's GPU, in 10⁹ bytes; None on a CPU.
        needs_starsearch: whether the weights load in timm only after `import starsearch.timm_models`.
    """

    folder: Path
    architecture: str
    num_params: int
    macs: int
    data: str
    orientation: str
    resolution: Resolution
    crop_pct: float
    stem_stride: int
    seed: int
    epochs: int
    top1_percent: float
    top5_percent: float
    best_epoch: int
    best_top1_percent: float
    best_top1_spread: float = math.nan  # of a training that ended before it was written
    best_top5_percent: float
    images_per_second: float
    seconds: float
    device: str
    precision: str
    ranks: int
    needs_starsearch: bool
    validation_images: int
    unreadable_images: list[str] = field(default_factory=list)
    peak_gpu_gb: float | None = None

    @property
    def load(self) -> str:
        """The Python line that loads the best weights with timm."""
        imports = "import starsearch.timm_models, timm" if self.needs_starsearch else "import timm"
        exported = TrainingFolder(self.folder).exported
        return f'{imports}; model = timm.create_model("local-dir:{exported}", pretrained=True)'


def train(
    network: str | Architecture, *, data: str, watch: Callable[[Progress], None] = ignore, **options: Any
) -> Trained:
    """Train a network in full, or resume its training.

    Args:
        network: an architecture in any of its forms, or STUDY:TRIAL, which brings its recipe and resolution.
        data: a folder, or a timm data-set name.
        watch: called with progress.
        options: as `plan_training` takes them: `recipe`, `epochs`, `batch_size`, `out`, `weights`, `hardware` …

    Raises:
        StarsearchError: the user's mistake or the machine's, in words; the last good state is kept.
    """
    text = network if isinstance(network, str) else format_architecture(network)
    trained = run_training(plan_training(text, data=data, **options), watch=watch)
    assert trained is not None  # it is the only rank
    return trained


def run_training(
    job: TrainingJob,
    *,
    watch: Callable[[Progress], None] = ignore,
    is_asked_to_stop: Callable[[], bool] | None = None,
    show_start: Callable[[Sequence[LayerStart]], None] = lambda _starts: None,
) -> Trained | None:
    """Train, or resume what the folder holds; called in each of the processes that train together.

    Between two steps `is_asked_to_stop` is asked; the training is kept then, and `TrainingStoppedError` is raised.
    Where it begins with the job's weights `show_start` is called with how the layers begin. The first rank does so, and
    returns what came out; others return None.
    """
    from starsearch.training import Hardware, Keeping, find_device, train
    from starsearch.training.ranks import joined_ranks, telling_of_lost_ranks
    from starsearch.training.transfer import compare, summarize

    with (
        joined_ranks(replace(Hardware(**job.hardware), device=find_device())) as hardware,
        # The first rank warns for all.
        _alone_in(job.folder) if hardware.is_first else warnings.catch_warnings(action="ignore"),
        telling_of_lost_ranks(hardware, last=TrainingFolder(job.folder).last),
    ):
        data = open_data(job.data)
        if hardware.is_first:
            warn_of_left_out(data)
        folder = TrainingFolder(job.folder)
        initial = None if job.weights is None or folder.last.is_file() else job.weights.for_data(data)
        if initial is not None and hardware.is_first:
            show_start(summarize(compare(job.architecture, initial, num_classes=len(data.classes))))
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
        if not hardware.is_first:
            follow(steps)
            return None

        def tell(progress: Progress) -> None:
            if progress.epoch is not None:
                folder.add_epoch(progress)
            watch(progress)

        with closing(folder.curve):
            result = follow(steps, tell)
        return _finish(job, folder, data, hardware, result)


def check_training_data(
    job: TrainingJob, *, ranks: int = 1, watch: Callable[[Progress], None] = ignore
) -> DataCheck | None:
    """Look for broken images and time decoding before a training; None where it resumes, or images are in memory."""
    from starsearch.training import Hardware, find_device

    data = open_data(job.data)
    if data.train.in_memory or (job.folder / "last.pt").exists():
        return None
    try_step(job, data, Hardware(device=find_device(), world_size=ranks, **job.hardware))
    return check_data(
        data,
        resolution=job.fidelity.resolution,
        workers=job.hardware.get("workers"),
        samples=_CHECKED_IMAGES,
        watch=watch,
    )


def try_step(job: TrainingJob, data: DataSet, hardware: Hardware) -> None:
    """On a GPU try one step of the training's batch on noise, before minutes go into preparing the data."""
    import torch

    from starsearch.training.distillation import open_teacher
    from starsearch.training.networks import build_network
    from starsearch.training.optimisation import Optimisation

    if hardware.device_type != "cuda":
        return
    micro = hardware.micro_batch(job.recipe.batch_size)
    alone = replace(hardware, world_size=1, rank=0, accumulate=1, compile=False, sync_batch_norm=False)
    recipe = replace(job.recipe, batch_size=micro, mixup=0.0, cutmix=0.0)  # which take no memory, and no odd batch
    size = (micro, 3, *sides(job.fidelity.resolution))
    try:
        with torch.random.fork_rng(devices=[]):
            model = build_network(job.architecture, data, recipe, job.fidelity, alone, initial=None)
            teacher = None if recipe.teacher is None else open_teacher(recipe.teacher, data, device=alone.device)
            optimisation = Optimisation(model, recipe, steps_per_epoch=1, hardware=alone, teacher=teacher)
            images = torch.randn(size).to(alone.device).contiguous(memory_format=torch.channels_last)
            targets = torch.zeros(micro, dtype=torch.int64, device=alone.device)
            float(optimisation.step(images, targets))  # waits for the GPU
    except torch.OutOfMemoryError as error:
        raise hardware.out_of_memory(job.recipe.batch_size) from error
    finally:
        torch.cuda.empty_cache()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder against a second training."""
    TrainingFolder(folder)  # made, or refused in words
    with alone(folder / ".lock", f"Another training is at work in {folder}. Wait for it, or give another --out."):
        for remains in folder.glob(".partial.*"):  # of a training that was killed
            remains.unlink(missing_ok=True)
        yield


def _conditions(job: TrainingJob) -> str:
    """What a training rests on beside recipe, data and seed, in words."""
    fidelity = job.fidelity
    begun = "new weights" if job.weights is None else f"the weights of {job.weights.text}"
    return (
        f"{fidelity.resolution} px, stem stride {fidelity.stem_stride}, validation crop {fidelity.crop_pct}, "
        f"begun with {begun}"
    )


def _finish(
    job: TrainingJob, folder: TrainingFolder, data: DataSet, hardware: Hardware, result: TrainingResult
) -> Trained:
    """Export the best weights as timm loads them, write the summary."""
    from starsearch.training.weight_file import load_weights

    best = folder.best_row()
    assert best is not None, "a training has an epoch"
    model = load_weights(folder.best)
    validated = Validated.on(data, job.fidelity)
    network = TrainedNetwork(
        model=model, source="", preprocessing=validated.preprocessing, class_names=tuple(data.classes)
    )
    if job.architecture.family != "timm" or job.fidelity.stem_stride == 2:  # else no name of timm's builds it
        write_format(network, formats()["timm"], folder.exported)
    fidelity, images = job.fidelity, result.num_validation_images
    trained = Trained(
        folder=job.folder,
        architecture=format_architecture(job.architecture),
        num_params=sum(weight.numel() for weight in model.parameters()),
        macs=model.count_macs(resolution=fidelity.resolution),
        data=f"{data.name} ({data.fingerprint})",
        orientation=data.orientation,
        resolution=fidelity.resolution,
        crop_pct=fidelity.crop_pct,
        stem_stride=fidelity.stem_stride,
        seed=job.seed,
        epochs=result.epochs,
        top1_percent=result.top1_percent,
        top5_percent=result.top5_percent,
        best_epoch=int(best["epoch"]),
        best_top1_percent=best["top1"],
        best_top1_spread=accuracy_measurement("top1_percent", best["top1"], num_images=images).spread or 0.0,
        best_top5_percent=best["top5"],
        images_per_second=result.images_per_second,
        seconds=folder.rows[-1]["seconds"],
        device=hardware.device_type,
        precision=hardware.precision,
        ranks=hardware.world_size,
        needs_starsearch=needs_starsearch(model),
        validation_images=images,
        unreadable_images=list(data.skipped),
        peak_gpu_gb=result.peak_gpu_gb,
    )
    folder.write_summary({name: value for name, value in asdict(trained).items() if name != "folder"})
    return trained

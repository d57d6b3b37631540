"""Validating a trained network by timm's protocol: top-1 and top-5 on the validation images of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import Classifier
from starsearch.api.output_classes import Comparison, compare_classes
from starsearch.data.source import DataSource
from starsearch.errors import BackendError, EvaluationError
from starsearch.measurement import accuracy_measurement
from starsearch.progress import Progress, follow, ignore, mapped

if TYPE_CHECKING:
    import torch

    from starsearch.data import DataSet
    from starsearch.data.batches import Batches
    from starsearch.data.preprocessing import Preprocessing

_BATCH_SIZE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good a network is on a data set's validation images.

    Attributes:
        network: what was validated.
        data: name of the data set.
        top1_percent, top5_percent: of the images that could be read; top-5 of n < 5 classes is top-n.
        top1_percent_spread: binomial standard error of the images.
        num_images: that could be read.
        num_classes: that the images are of, and between which the network chose.
        images_per_second: decoded and answered.
        unreadable: images that could not be read, by name and with the reason.
        resolution, crop_pct, crop_mode, mean, std, interpolation: how images were prepared.
        device: of torch; of an ONNX file, what ONNX Runtime ran on.
        notes: what a reader shall know of how classes were compared, a sentence each.
    """

    network: str
    data: str
    top1_percent: float
    top1_percent_spread: float | None
    top5_percent: float
    num_images: int
    num_classes: int
    images_per_second: float
    unreadable: tuple[str, ...]
    resolution: int
    crop_pct: float
    crop_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    device: str
    notes: tuple[str, ...] = ()


def validate_network(
    network: str,
    data: str,
    *,
    weights: Path | None = None,
    resolution: int | None = None,
    crop_pct: float | None = None,
    batch_size: int = _BATCH_SIZE,
    device: str | None = None,
    workers: int | None = None,
    watch: Callable[[Progress], None] = ignore,
) -> Validation:
    """Top-1 and top-5 of a trained network, prepared as timm's `validate.py` does.

    Images are resized to `resolution / crop_pct`, cropped to the middle and normalised. Where the data's classes are
    some of ImageNet's 1,000 (by synset), and the network knows all of them, only the logits of those are compared.

    Args:
        network: as `starsearch.api.classifiers.find_classifier` takes it.
        data: as `starsearch.data.open_validation` takes it.
        weights: a file of weights for an architecture or timm model.
        resolution: in pixels; None for the model's own, or 224.
        crop_pct: share of the resized image's side that is kept; None for the model's own, or 0.875.
        batch_size: images at once, where the network does not fix it.
        device: of torch; None for a GPU where there is one.
        workers: processes that decode; None for one a thread of torch, at most 8.
        watch: is told how far it is.

    Raises:
        DataError: the data set cannot be opened, or too many images cannot be read.
        EvaluationError: there are no weights, or the network's classes are not the data's, or memory does not suffice.
        BackendError: this machine has no such device.
        ArchitectureError, SpecError, StudyError: `network` names none.
    """
    import torch

    from starsearch.api.classifiers import find_classifier
    from starsearch.data import open_validation
    from starsearch.data.batches import RankShare, validation_batches

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    images = open_validation(data)
    classifier = find_classifier(network, weights=weights, device=device)
    source = DataSource.parse(data)
    if source.orientation is None and classifier.orientation not in (None, images.orientation):
        images = open_validation(str(replace(source, orientation=classifier.orientation)))
    on_device = "cpu" if classifier.runs_on_cpu else device
    comparison = compare_classes(classifier, images)
    preprocessing = _preparation(classifier, images, resolution, crop_pct)
    batches = follow(
        validation_batches(
            images,
            preprocessing,
            batch_size=batch_size,
            share=RankShare(device=on_device, workers=workers),
            keep=False,
            consequence="",
        )
    )
    began = time.perf_counter()
    top1, top5, num_images = follow(_count_hits(classifier, comparison, batches, on_device), watch)
    accuracy = accuracy_measurement("top1_percent", 100 * top1 / num_images, num_images=num_images)
    return Validation(
        network=classifier.text,
        data=images.name,
        top1_percent=accuracy.value,
        top1_percent_spread=accuracy.spread,
        top5_percent=100 * top5 / num_images,
        num_images=num_images,
        num_classes=len(images.classes),
        images_per_second=num_images / (time.perf_counter() - began),
        unreadable=tuple(images.validation.unreadable),
        **{name: value for name, value in asdict(preprocessing).items() if name != "orientation"},
        device="ONNX Runtime, cpu" if classifier.runs_on_cpu else on_device,
        notes=comparison.notes,
    )


def _check_device(device: str) -> None:
    """Refuse a device that torch does not know or this machine does not have."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        words = str(error).strip().splitlines()[0]
        raise BackendError(
            f"torch cannot compute on {device!r} here: {words}. Leave out --device, or say cpu."
        ) from error


def _preparation(
    classifier: Classifier, data: DataSet, resolution: int | None, crop_pct: float | None
) -> Preprocessing:
    """What was asked for; else what timm has for the network; else timm's defaults, and the data's mean and deviation.

    Those defaults, 224 pixels of which 0.875 of the side is kept, bicubic, are StarNet's as well.
    """
    from timm.data import resolve_data_config

    from starsearch.data.preprocessing import Preprocessing

    config, fixed = classifier.config, classifier.fixed_resolution
    if fixed is not None and resolution not in (None, fixed):
        raise EvaluationError(
            f"{classifier.text} takes images of {fixed} pixels, as is written in it; leave out the resolution of "
            f"{resolution}, or export it again (starsearch export … --resolution {resolution})."
        )
    known = {"mean": data.mean, "std": data.std, **{key: value for key, value in config.items() if value is not None}}
    # As timm's validate.py: at the size a model is tested at, where that is another than it was trained at.
    resolve: Any = resolve_data_config  # timm has no types
    resolved = resolve(pretrained_cfg=known, use_test_size=True)
    channels, _, size = resolved["input_size"]
    if channels != 3:
        raise EvaluationError(f"{classifier.text} takes images of {channels} channels; data sets have 3.")
    return Preprocessing(
        resolution=resolution or int(size),
        crop_pct=crop_pct or float(resolved["crop_pct"]),
        crop_mode=str(resolved["crop_mode"]),
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        interpolation=str(resolved["interpolation"]),
    )


def _count_hits(
    classifier: Classifier, comparison: Comparison, batches: Batches, device: str
) -> Generator[Progress, None, tuple[int, int, int]]:
    """Return how many images had their class first, among the first five, and were answered at all."""
    import torch

    from starsearch.training.evaluate import count_hits

    outputs = None if comparison.outputs is None else torch.tensor(comparison.outputs, device=device)

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        try:
            logits = classifier.logits(pixels.contiguous())
        except torch.OutOfMemoryError as error:
            raise EvaluationError(
                f"A batch of {len(pixels)} images of {pixels.shape[-1]} pixels does not fit the memory of "
                f"{pixels.device}; try --batch-size {max(1, len(pixels) // 2)}."
            ) from error
        return logits if outputs is None else logits[:, outputs]

    hits = count_hits(predict, batches, device=device)
    top1, top5, count = (yield from mapped(hits, lambda done: Progress(fraction=done, stage="validation"))).tolist()
    return top1, top5, count

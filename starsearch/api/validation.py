"""Validating a trained network by timm's protocol: top-1 and top-5 on the validation images of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.classifier import Classifier
from starsearch.api.networks import resolve
from starsearch.data import DataSet, open_validation
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.source import DataSource
from starsearch.data.synsets import NUM_IMAGENET_CLASSES, imagenet_indices
from starsearch.errors import BackendError, EvaluationError, first_line, some
from starsearch.measurement import accuracy_measurement
from starsearch.progress import Progress, follow, ignore, mapped
from starsearch.resolution import Resolution, of_sides

if TYPE_CHECKING:
    import torch

    from starsearch.data.batches import Batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good a network is on a data set's validation images.

    Attributes:
        top1_percent, top5_percent: shares of the images that could be read; top-5 of n < 5 classes is top-n.
        top1_percent_spread: binomial standard error of the images.
        num_classes: how many classes the network chose between.
        images_per_second: decoded and answered.
        unreadable: images that could not be read, by name and with the reason.
        device: torch's name of it; of an ONNX file, what ONNX Runtime ran on.
        notes: how classes were compared, a sentence each.
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
    resolution: Resolution
    crop_pct: float
    crop_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    device: str
    notes: tuple[str, ...] = ()


def validate(
    network: str,
    data: str,
    *,
    weights: Path | None = None,
    resolution: Resolution | None = None,
    crop_pct: float | None = None,
    batch_size: int = 128,
    device: str | None = None,
    workers: int | None = None,
    watch: Callable[[Progress], None] = ignore,
) -> Validation:
    """Judge a trained network by top-1 and top-5, its images prepared as timm's `validate.py` does.

    Images are resized until they cover `resolution / crop_pct`, cropped to the middle and normalised. Where the data's
    classes are some of ImageNet's 1,000 (by synset), and the network knows all of them, only their logits are compared.

    Args:
        network: as `starsearch.api.networks.resolve` takes it.
        data: as `starsearch.data.open_validation` takes it.
        weights: a file of weights for an architecture or timm model.
        resolution: None for the model's own, or 224.
        crop_pct: the share of the resized image's side that is kept; None for the model's own, or 0.875.
        batch_size: images at once, where the network does not fix it.
        device: torch's name of it; None for a GPU where there is one.
        workers: processes that decode; None for one per thread of torch, at most 8.
        watch: is called with the progress.

    Raises:
        DataError: the data set cannot be opened, or too many images cannot be read.
        EvaluationError: there are no weights, or the network's classes are not the data's, or memory does not suffice.
        BackendError: this machine has no such device.
        ArchitectureError, SpecError, StudyError: `network` names none.
    """
    import torch

    from starsearch.data.batches import RankShare, validation_batches
    from starsearch.training import find_device

    device = device or find_device()
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendError(
            f"torch cannot compute on {device!r} here: {first_line(error)}. Leave out --device, or say cpu."
        ) from error
    found = open_validation(data)
    classifier = resolve(network).classifier(weights=weights, device=device)
    source = DataSource.parse(data)
    if source.orientation is None and classifier.orientation not in (None, found.orientation):
        found = open_validation(str(replace(source, orientation=classifier.orientation)))
    outputs, notes = _compare_classes(classifier, found)
    preprocessing = _preprocessing(classifier, found, resolution, crop_pct)
    on_device = "cpu" if classifier.runs_on_cpu else device
    share = RankShare(device=on_device, workers=workers)
    batches = follow(
        validation_batches(found, preprocessing, batch_size=batch_size, share=share, keep=False, consequence="")
    )
    began = time.perf_counter()
    top1, top5, answered = follow(_count_hits(classifier, outputs, batches, on_device), watch)
    seconds = time.perf_counter() - began
    accuracy = accuracy_measurement("top1_percent", 100 * top1 / answered, num_images=answered)
    return Validation(
        network=classifier.text,
        data=found.name,
        top1_percent=accuracy.value,
        top1_percent_spread=accuracy.spread,
        top5_percent=100 * top5 / answered,
        num_images=answered,
        num_classes=len(found.classes),
        images_per_second=answered / seconds,
        unreadable=tuple(found.validation.unreadable),
        **{name: value for name, value in asdict(preprocessing).items() if name != "orientation"},
        device="ONNX Runtime, cpu" if classifier.runs_on_cpu else device,
        notes=notes,
    )


def _preprocessing(
    classifier: Classifier, data: DataSet, resolution: Resolution | None, crop_pct: float | None
) -> Preprocessing:
    """Return what was asked for; else what timm has for the network; else timm's defaults, and the data's mean and std.

    Those defaults, 224 pixels of which 0.875 of the side is kept, bicubic, are StarNet's as well.
    """
    from timm.data import resolve_data_config

    config, fixed = classifier.config, classifier.fixed_resolution
    if fixed is not None and resolution not in (None, fixed):
        raise EvaluationError(
            f"{classifier.text} takes images of {fixed} pixels, as is written in it; leave out the resolution of "
            f"{resolution}, or export it again (starsearch export … --resolution {resolution})."
        )
    known = {"mean": data.mean, "std": data.std, **{key: value for key, value in config.items() if value is not None}}
    # As timm's validate.py: at the size a model is tested at, where that is another than it was trained at.
    resolve_config: Any = resolve_data_config  # timm has no types
    resolved = resolve_config(pretrained_cfg=known, use_test_size=True)
    channels, *size = resolved["input_size"]
    if channels != 3:
        raise EvaluationError(f"{classifier.text} takes images of {channels} channels; data sets have 3.")
    return Preprocessing(
        resolution=resolution or of_sides(*size),
        crop_pct=crop_pct or float(resolved["crop_pct"]),
        crop_mode=str(resolved["crop_mode"]),
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        interpolation=str(resolved["interpolation"]),
    )


def _count_hits(
    classifier: Classifier, outputs: tuple[int, ...] | None, batches: Batches, device: str
) -> Generator[Progress, None, tuple[int, int, int]]:
    """Return how many images had their class first, among the first five, and were answered at all."""
    import torch

    from starsearch.training.evaluate import count_hits

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        try:
            logits = classifier.logits(pixels.contiguous())
        except torch.OutOfMemoryError as error:
            raise EvaluationError(
                f"A batch of {len(pixels)} images of {of_sides(*pixels.shape[-2:])} pixels does not fit the memory of "
                f"{pixels.device}; try --batch-size {max(1, len(pixels) // 2)}."
            ) from error
        return logits if outputs is None else logits[:, list(outputs)]

    hits = count_hits(predict, batches, device=device)
    top1, top5, count = (yield from mapped(hits, lambda done: Progress(fraction=done, stage="validation"))).tolist()
    return top1, top5, count


_Comparison = tuple[tuple[int, ...] | None, tuple[str, ...]]


def _compare_classes(classifier: Classifier, data: DataSet) -> _Comparison:
    """Return the output for each class of the data (None where they are the same in the same order), and notes.

    Classes are matched by name where the network says its own, else by ImageNet's: a network of 1,000 outputs without
    names is taken for one of ImageNet in timm's order, and a data set of some of its synsets is compared among those,
    as timm does with subsets of ImageNet (ImageNet-A, ImageNet-R). Data that says only numbers, as many as the network
    has outputs, is compared in their order.
    """
    classes, names, num_outputs = data.classes, classifier.class_names, classifier.num_outputs
    in_order = len(classes) == num_outputs
    own, others = imagenet_indices(names), imagenet_indices(classes)
    places = {name: output for output, name in enumerate(names)}
    if names and set(classes) <= set(places):
        return _subset(tuple(places[name] for name in classes), num_outputs)
    # The same classes under other names: the hub's words and ImageNet's synsets.
    if names and own is not None and others is not None and set(others) <= set(own):
        return _subset(tuple(own.index(place) for place in others), num_outputs)
    if names and data.validation.numbered and in_order:
        return None, ("The data says only the numbers of its classes; they are taken to be the network's, in order.",)
    if names:
        unknown = [name for name in classes if name not in places]
        raise EvaluationError(
            f"{classifier.text} does not know {len(unknown):,} of the {len(classes):,} classes of {data.name!r} "
            f"({some(unknown)}): it was trained for other ones ({some(names)})."
        )
    if num_outputs == NUM_IMAGENET_CLASSES and others is not None:
        return _subset(others, num_outputs)
    if in_order:
        return None, ("The network does not name its classes; they are taken to be the data's, in their order.",)
    raise EvaluationError(
        f"{classifier.text} has {num_outputs:,} outputs and {data.name!r} {len(classes):,} classes ({some(classes)}): "
        "it was trained for other ones. A network of ImageNet's 1,000 can be validated on some of them where the class "
        "folders are called by synset (n01440764)."
    )


def _subset(outputs: tuple[int, ...], num_outputs: int) -> _Comparison:
    if outputs == tuple(range(num_outputs)):
        return None, ()
    if len(outputs) == num_outputs:
        return outputs, ("The network has the data's classes in another order; they are matched by name.",)
    note = (
        f"The data has {len(outputs):,} of the network's {num_outputs:,} classes; only their logits are compared, "
        "which is easier than to choose among all."
    )
    return outputs, (note,)

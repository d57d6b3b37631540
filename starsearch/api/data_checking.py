"""A look at a data set before hours of training are spent on it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import TYPE_CHECKING

from starsearch.progress import Progress, follow, ignore

if TYPE_CHECKING:
    from starsearch.data import DataSet, Split
    from starsearch.data.decode_speed import Probe, Transform
    from starsearch.data.shared_images import SharedImages
    from starsearch.data.source import Orientation

_SAMPLES = 300  # of each split: with 1 % of damaged images, 95 % likely to show one
_PER_WORKER = 48  # images that each process decodes at least, to be timed
_MOST_WORKERS = 8
_FEW = 0.1  # of the median number of images a class
_LARGE_SIDE = 320  # pixels; most of the time of a larger image goes into pixels that are then thrown away
_MOST_CLASSES = 5  # from the first on whose images are named, beside the last
_RESERVE = 1.1  # by which loading shall be faster than training: both vary
_SPLITS = ("training", "validation")
_LIKELY = (
    "Look at a few: white drawn on a transparent background is white on white, values in a small part of the file's "
    "range are all but black, and a failed download gives the same placeholder for every image."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCheck:
    """What was found of a split.

    Attributes:
        num_images: in all.
        images_a_class: least, median and most.
        small_classes: those with less than a tenth of the median, as "name (count)".
        sampled: images that were read.
        unreadable: those of them that cannot be read, by name and with the reason.
        shorter_side_px: least, median and most, of the sample; None where none could be read.
        modes: how many images of the sample have which of Pillow's modes.
    """

    num_images: int
    images_a_class: tuple[int, float, int]
    small_classes: tuple[str, ...]
    sampled: int
    unreadable: tuple[str, ...]
    shorter_side_px: tuple[int, float, int] | None
    modes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What was found of a data set.

    Attributes:
        name: of the data set.
        num_classes: that it has.
        classes: what they are, in a sentence.
        examples: of the first classes and the last, three training images each.
        left_out: files beside the images that no training uses, by suffix; "" stands for none.
        train, validation: the splits.
        resolution: at which images were prepared, in pixels.
        one_worker_images_per_second: read and augmented by one process.
        workers: processes that were timed together.
        workers_images_per_second: what these read and augment.
        training_images_per_second: what the training takes; None where that is not known.
        workers_needed: that would keep up with it; None likewise.
        orientation: "exif" where images are turned as their EXIF says, "stored" where they are left.
        shared: validation images that are among the training images too.
        warnings: what should be looked at first, a sentence each.
        errors: what a training refuses, a sentence each.
    """

    name: str
    num_classes: int
    classes: str
    examples: dict[str, tuple[str, ...]]
    left_out: dict[str, int]
    train: SplitCheck
    validation: SplitCheck
    resolution: int
    one_worker_images_per_second: float
    workers: int
    workers_images_per_second: float
    training_images_per_second: float | None
    workers_needed: int | None
    orientation: Orientation
    shared: SharedImages
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def check_data(
    data: str | DataSet,
    *,
    resolution: int = 224,
    workers: int | None = None,
    images_per_second: float | Callable[[], float] | None = None,
    transform: Transform | None = None,
    samples: int = _SAMPLES,
    seed: int = 0,
    watch: Callable[[Progress], None] = ignore,
) -> DataCheck:
    """Classes, images a class, unreadable images of a sample, and whether decoding keeps up with a training.

    Args:
        data: a data set, or what `open_data` takes.
        resolution: of the training, in pixels.
        workers: processes that decode; None for one a core, at most 8.
        images_per_second: of the training, or what measures it (on a batch that is there already); None where it is
            not known.
        transform: of a training image; None for that of the paper's recipe.
        samples: images of each split that are read.
        seed: of the sample.
        watch: is told how far it is.

    Raises:
        DataError: the data set cannot be opened.
    """
    from starsearch.data import open_data
    from starsearch.data.decode_speed import paper_transform
    from starsearch.data.unreadable import MOST_UNREADABLE, are_too_many

    dataset = open_data(data) if isinstance(data, str) else data
    transform = transform or paper_transform(dataset, resolution=resolution)
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    found = follow(_look(dataset, transform, workers=workers, samples=samples, seed=seed), watch)
    wanted = images_per_second() if callable(images_per_second) else images_per_second
    per_worker = found.together / workers
    needed = None if wanted is None else math.ceil(_RESERVE * wanted / per_worker)
    checks = [
        _check_split(split, dataset.classes, seen)
        for split, seen in ((dataset.train, found.train), (dataset.validation, found.validation))
    ]
    return DataCheck(
        name=dataset.name,
        num_classes=len(dataset.classes),
        classes=describe_classes(dataset.classes),
        examples=_examples(dataset),
        left_out=dict(dataset.left_out),
        train=checks[0],
        validation=checks[1],
        resolution=resolution,
        one_worker_images_per_second=found.train.images_per_second,
        workers=workers,
        workers_images_per_second=found.together,
        training_images_per_second=wanted,
        workers_needed=needed,
        orientation=dataset.orientation,
        shared=found.shared,
        warnings=(
            *_warn_of_images(checks, resolution),
            *_warn_of_sameness((found.train, found.validation)),
            *([found.shared.in_words()] if found.shared.names else []),
            *_warn_of_loading(wanted, needed, workers, found),
        ),
        errors=tuple(
            f"{_unreadable_in_words(name, check)} cannot be read, as {check.unreadable[0]}. A training leaves "
            f"out no more than {MOST_UNREADABLE:.0%} of a split: repair or remove them."
            for name, check in zip(_SPLITS, checks, strict=True)
            if are_too_many(len(check.unreadable), check.sampled)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The samples of both splits, what these share, and images a second that several processes read together."""

    train: Probe
    validation: Probe
    shared: SharedImages
    together: float


def _look(
    data: DataSet, transform: Transform, *, workers: int, samples: int, seed: int
) -> Generator[Progress, None, _Found]:
    from starsearch.data.decode_speed import measure_workers, probe
    from starsearch.data.shared_images import find_shared_images

    yield Progress(fraction=0.0, stage="reading training images")
    train = probe(data.train, _sample(data.train, samples, seed), transform)
    yield Progress(fraction=0.4, stage="reading validation images")
    validation = probe(data.validation, _sample(data.validation, samples, seed), transform)
    yield Progress(fraction=0.7, stage="comparing the splits")
    shared = find_shared_images(data)
    yield Progress(fraction=0.8, stage=f"timing {workers} workers")
    # Others than were read above: those are in the file system's cache by now.
    enough = max(samples, _PER_WORKER * workers)
    others = list(islice(cycle(_sample(data.train, enough, seed + 1)), enough))
    together = measure_workers(data.train, others, transform, workers=workers)
    yield Progress(fraction=1.0, stage="timed")
    return _Found(train=train, validation=validation, shared=shared, together=together)


def _sample(split: Split, samples: int, seed: int) -> list[int]:
    """So many indices at random, none twice; all of them where there are no more."""
    import numpy as np

    order = np.random.default_rng([seed, 0xC4EC]).permutation(len(split))
    return [int(index) for index in order[:samples]]


def _check_split(split: Split, classes: Sequence[str], seen: Probe) -> SplitCheck:
    import numpy as np

    counts = np.bincount(split.targets, minlength=len(classes))
    usual = float(np.median(counts))
    sides = seen.shorter_sides
    return SplitCheck(
        num_images=len(split),
        images_a_class=(int(counts.min()), usual, int(counts.max())),
        small_classes=tuple(f"{classes[i]} ({counts[i]})" for i in np.flatnonzero(counts < _FEW * usual).tolist()),
        sampled=seen.num_images,
        unreadable=seen.unreadable,
        shorter_side_px=(sides[0], float(median(sides)), sides[-1]) if sides else None,
        modes=seen.modes,
    )


def _examples(data: DataSet) -> dict[str, tuple[str, ...]]:
    """Return the first, the middle and the last training image of some classes."""
    import numpy as np

    found = {}
    for target in sorted({*range(len(data.classes))[:_MOST_CLASSES], len(data.classes) - 1}):
        members = np.flatnonzero(data.train.targets == target).tolist()
        chosen = dict.fromkeys([members[0], members[len(members) // 2], members[-1]] if members else [])
        found[data.classes[target]] = tuple(data.train.names[index] for index in chosen)
    return found


def describe_classes(classes: Sequence[str]) -> str:
    """What these classes are: ImageNet's, some of them, or others; a sentence."""
    from starsearch.data.synsets import NUM_IMAGENET_CLASSES, imagenet_indices, imagenet_synsets

    places, synsets = imagenet_indices(classes), imagenet_synsets()
    if places == tuple(range(NUM_IMAGENET_CLASSES)):
        return "These are ImageNet's 1,000 classes in timm's order."
    if places is not None and len(places) == NUM_IMAGENET_CLASSES:
        return "These are ImageNet's 1,000 classes, but not in timm's order: timm's weights would see others."
    if places is not None:
        lacking = [synset for synset in synsets if synset not in set(classes)]
        return f"These are {len(places):,} of ImageNet's 1,000 classes; {_some(lacking)} are not there."
    if len(classes) == NUM_IMAGENET_CLASSES and tuple(classes) == tuple(map(str, range(NUM_IMAGENET_CLASSES))):
        return "There are 1,000 classes without names; they are ImageNet's if the files number them as timm does."
    if known := set(classes) & set(synsets):
        foreign = [name for name in classes if name not in known]
        return f"{len(known):,} of the {len(classes):,} classes are ImageNet's; {_some(foreign)} are not."
    return f"There are {len(classes):,} classes, not ImageNet's."


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _warn_of_images(checks: Sequence[SplitCheck], resolution: int) -> list[str]:
    from starsearch.data.unreadable import are_too_many

    found = []
    for name, check in zip(_SPLITS, checks, strict=True):
        if check.unreadable and not are_too_many(len(check.unreadable), check.sampled):
            found.append(f"{_unreadable_in_words(name, check)} cannot be read; a training leaves such images out.")
        if check.small_classes:
            found.append(
                f"{len(check.small_classes):,} classes have less than a tenth of the usual number of {name} images: "
                f"{_some(check.small_classes)}."
            )
    side = checks[0].shorter_side_px
    if side is not None and side[1] < resolution:
        found.append(
            f"Half of the training images are smaller than {resolution} pixels ({side[1]:g} in the median): they will "
            "be enlarged."
        )
    return found


def _unreadable_in_words(name: str, check: SplitCheck) -> str:
    number = len(check.unreadable)
    return f"{number} of {check.sampled} {name} images that were tried ({number / check.sampled:.1%})"


def _warn_of_sameness(probes: Sequence[Probe]) -> list[str]:
    """Words for samples that show nothing, or nothing but one picture."""
    found = []
    for name, seen in zip(_SPLITS, probes, strict=True):
        readable = len(seen.shorter_sides)
        if readable > 1 and seen.num_different == 1:
            found.append(f"All {readable} {name} images that were tried are equal. {_LIKELY}")
        elif seen.num_of_one_colour > readable / 2:
            number = "All" if seen.num_of_one_colour == readable else f"{seen.num_of_one_colour} of"
            found.append(f"{number} {readable} {name} images that were tried show one colour alone. {_LIKELY}")
    return found


def _warn_of_loading(wanted: float | None, needed: int | None, workers: int, found: _Found) -> list[str]:
    if wanted is None or needed is None or found.together >= wanted:
        return []
    cores = os.cpu_count() or 1
    advice = f"{needed:,} workers would do"
    if needed > cores:
        advice += f", more than the {cores} cores here: take a machine of more cores"
        if found.train.shorter_sides and median(found.train.shorter_sides) > _LARGE_SIDE:
            advice += ", or make the images smaller on disk (a shorter side of 256 pixels or so)"
    gained = found.together / found.train.images_per_second
    if workers > 1 and gained < workers / 2:
        advice += f". {workers} decode {gained:.1f} times what one does: cores or storage are at their limit already"
    speeds = f"{workers} workers decode {found.together:,.0f} images/s and the training takes {wanted:,.0f}"
    return [f"Loading is the bottleneck: {speeds}; {advice}."]

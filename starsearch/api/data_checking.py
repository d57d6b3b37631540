"""A look at a data set before hours of training are spent on it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from starsearch.data import DataSet, Split, open_data
from starsearch.data.shared_images import SharedImages, find_shared_images
from starsearch.data.synsets import NUM_IMAGENET_CLASSES, imagenet_indices, imagenet_synsets
from starsearch.data.unreadable import MOST_UNREADABLE, are_too_many, read_or_note
from starsearch.errors import some
from starsearch.progress import Progress, ignore
from starsearch.resolution import Resolution, sides

if TYPE_CHECKING:
    from starsearch.data.decode_speed import SplitCheck
    from starsearch.data.source import Orientation

_PER_WORKER = 48  # images that each process decodes at least, to be timed
_MOST_WORKERS = 8
_LARGE_SIDE = 320  # pixels; most of the time of a larger image goes into pixels that are then thrown away
_MOST_CLASSES = 5  # from the first on whose images are named, beside the last
_RESERVE = 1.1  # by which loading must be faster than training: both vary
_LIKELY = (
    "Look at a few: white drawn on a transparent background is white on white, values in a small part of the file's "
    "range are all but black, and a failed download gives the same placeholder for every image."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCheck:
    """What was found in a data set.

    Attributes:
        classes: what they are, in a sentence.
        examples: up to three training images each, which can be read, of the first classes and the last.
        left_out: files beside the images that no training uses, by suffix ("" for none).
        workers_needed: how many would keep up with `training_images_per_second`; None if that was not given.
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
    resolution: Resolution
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
    resolution: Resolution = 224,
    workers: int | None = None,
    images_per_second: float | None = None,
    samples: int = 300,
    seed: int = 0,
    watch: Callable[[Progress], None] = ignore,
) -> DataCheck:
    """Look at classes, images per class, a sample's unreadable images, and whether decoding keeps up with a training.

    `samples` images of each split are read, the examples among them: of 300 with 1 % of damaged ones, 95 % of samples
    show one.
    """
    from starsearch.data.decode_speed import check_split, measure_workers, paper_transform

    dataset = open_data(data) if isinstance(data, str) else data
    transform = paper_transform(dataset, resolution=resolution)
    workers = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    watch(Progress(fraction=0.0, stage="reading training images"))
    examples = _examples(dataset)
    shown = [index for indices in examples.values() for index in indices]
    tried = list(dict.fromkeys([*shown, *_sample(dataset.train, samples, seed)]))[:samples]
    train = check_split(dataset.train, tried, transform)
    watch(Progress(fraction=0.4, stage="reading validation images"))
    validation = check_split(dataset.validation, _sample(dataset.validation, samples, seed), transform)
    watch(Progress(fraction=0.7, stage="comparing the splits"))
    shared = find_shared_images(dataset)
    watch(Progress(fraction=0.8, stage=f"timing {workers} workers"))
    # Others than were read above: those are in the file system's cache by now.
    enough = max(samples, _PER_WORKER * workers)
    others = list(islice(cycle(_sample(dataset.train, enough, seed + 1)), enough))
    together = measure_workers(dataset.train, others, transform, workers=workers)
    watch(Progress(fraction=1.0, stage="timed"))
    wanted = images_per_second
    needed = None if wanted is None else math.ceil(_RESERVE * wanted * workers / together)
    checks = {"training": train, "validation": validation}
    warnings = [words for name, check in checks.items() for words in _warn_of_split(name, check)]
    if train.shorter_side_px is not None and (side := train.shorter_side_px[1]) < min(sides(resolution)):
        warnings.append(
            f"Half of the training images are smaller than {resolution} pixels (shorter sides of {side:g} in the "
            "median): they will be enlarged."
        )
    if shared.names:
        warnings.append(shared.in_words())
    if wanted is not None and needed is not None and together < wanted:
        warnings.append(_warn_of_loading(wanted, needed, workers, together, train))
    return DataCheck(
        name=dataset.name,
        num_classes=len(dataset.classes),
        classes=describe_classes(dataset.classes),
        examples={
            name: tuple(
                dataset.train.image_name(index)
                for index in indices
                if not isinstance(read_or_note(dataset.train, index), str)
            )
            for name, indices in examples.items()
        },
        left_out=dict(dataset.left_out),
        train=train,
        validation=validation,
        resolution=resolution,
        one_worker_images_per_second=train.images_per_second,
        workers=workers,
        workers_images_per_second=together,
        training_images_per_second=wanted,
        workers_needed=needed,
        orientation=dataset.orientation,
        shared=shared,
        warnings=tuple(warnings),
        errors=tuple(words for name, check in checks.items() for words in _refuse_split(name, check)),
    )


def _sample(split: Split, samples: int, seed: int) -> list[int]:
    """Return so many indices at random, none twice; all of them if there are no more."""
    import numpy as np

    order = np.random.default_rng([seed, 0xC4EC]).permutation(len(split))
    return [int(index) for index in order[:samples]]


def _examples(data: DataSet) -> dict[str, list[int]]:
    """Return where to find the first, the middle and the last training image of some classes."""
    import numpy as np

    found = {}
    for target in sorted({*range(len(data.classes))[:_MOST_CLASSES], len(data.classes) - 1}):
        members = np.flatnonzero(data.train.targets == target).tolist()
        chosen = [members[0], members[len(members) // 2], members[-1]] if members else []
        found[data.classes[target]] = list(dict.fromkeys(chosen))
    return found


def describe_classes(classes: Sequence[str]) -> str:
    """Say in a sentence what these classes are: ImageNet's, some of them, or others."""
    places, synsets = imagenet_indices(classes), imagenet_synsets()
    if places == tuple(range(NUM_IMAGENET_CLASSES)):
        return "These are ImageNet's 1,000 classes in timm's order."
    if places is not None and len(places) == NUM_IMAGENET_CLASSES:
        return "These are ImageNet's 1,000 classes, but not in timm's order: timm's weights would see others."
    if places is not None:
        lacking = [synset for synset in synsets if synset not in set(classes)]
        return f"These are {len(places):,} of ImageNet's 1,000 classes; {some(lacking)} are not there."
    if tuple(classes) == tuple(map(str, range(NUM_IMAGENET_CLASSES))):
        return "There are 1,000 classes without names; they are ImageNet's if the files number them as timm does."
    if known := set(classes) & set(synsets):
        foreign = [name for name in classes if name not in known]
        return f"{len(known):,} of the {len(classes):,} classes are ImageNet's; {some(foreign)} are not."
    return f"There are {len(classes):,} classes, not ImageNet's."


def _refuse_split(name: str, check: SplitCheck) -> Iterator[str]:
    if are_too_many(len(check.unreadable), check.sampled):
        yield (
            f"{_unreadable_in_words(name, check)} cannot be read, as {check.unreadable[0]}. A training leaves out no "
            f"more than {MOST_UNREADABLE:.0%} of a split: repair or remove them."
        )


def _unreadable_in_words(name: str, check: SplitCheck) -> str:
    number = len(check.unreadable)
    return f"{number} of {check.sampled} {name} images that were tried ({number / check.sampled:.1%})"


def _warn_of_split(name: str, check: SplitCheck) -> Iterator[str]:
    if check.unreadable and not list(_refuse_split(name, check)):
        yield f"{_unreadable_in_words(name, check)} cannot be read; a training leaves such images out."
    if check.small_classes:
        yield (
            f"{len(check.small_classes):,} classes have less than a tenth of the usual number of {name} images: "
            f"{some(check.small_classes)}."
        )
    readable = check.sampled - len(check.unreadable)
    if readable > 1 and check.num_different == 1:
        yield f"All {readable} {name} images that were tried are equal. {_LIKELY}"
    elif check.num_of_one_colour > readable / 2:
        number = "All" if check.num_of_one_colour == readable else f"{check.num_of_one_colour} of"
        yield f"{number} {readable} {name} images that were tried show a single colour. {_LIKELY}"


def _warn_of_loading(wanted: float, needed: int, workers: int, together: float, train: SplitCheck) -> str:
    cores = os.cpu_count() or 1
    advice = f"{needed:,} workers would do"
    if needed > cores:
        advice += f", more than the {cores} cores here: take a machine of more cores"
        if train.shorter_side_px is not None and train.shorter_side_px[1] > _LARGE_SIDE:
            advice += ", or make the images smaller on disk (a shorter side of 256 pixels or so)"
    gained = together / train.images_per_second
    if workers > 1 and gained < workers / 2:
        advice += f". {workers} decode {gained:.1f} times what one does: cores or storage are at their limit already"
    speeds = f"{workers} workers decode {together:,.0f} images/s and the training takes {wanted:,.0f}"
    return f"Loading is the bottleneck: {speeds}; {advice}."

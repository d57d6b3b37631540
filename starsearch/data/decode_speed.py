"""What a split holds, and how fast its images are read and augmented, by one process and by several."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader

from starsearch.data.augmentation import make_transform
from starsearch.data.dataset import INTERPOLATION, DataSet, Split
from starsearch.data.unreadable import read_or_note
from starsearch.data.workers import Samples
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    from PIL import Image

_FEW = 0.1  # of the median number of images per class
_BATCH = 4
Transform = Callable[["Image.Image"], Any]


def paper_transform(data: DataSet, *, resolution: Resolution) -> Transform:
    """Return the augmentation of the paper's recipe: random-resized crop, flip, RandAugment."""
    options = {"interpolation": INTERPOLATION, "mean": data.mean, "std": data.std, "use_prefetcher": True}
    transform: Transform = make_transform("rand-m1-mstd0.5-inc1", resolution, **options)
    return transform


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCheck:
    """What was found in a split.

    Attributes:
        num_images: in all.
        images_a_class: least, median and most.
        small_classes: those with less than a tenth of the median, as "name (count)".
        sampled: how many images were read and transformed.
        unreadable: those of them that cannot be read, by name and with the reason.
        shorter_side_px: least, median and most, of the sample; None if none could be read.
        modes: how many images of the sample have which of Pillow's modes.
        num_different, num_of_one_colour: how many of the sample differ, and show one colour and nothing else.
        images_per_second: read and transformed in one process.
    """

    num_images: int
    images_a_class: tuple[int, float, int]
    small_classes: tuple[str, ...]
    sampled: int
    unreadable: tuple[str, ...]
    shorter_side_px: tuple[int, float, int] | None
    modes: dict[str, int]
    num_different: int
    num_of_one_colour: int
    images_per_second: float


def check_split(split: Split, indices: Sequence[int], transform: Transform) -> SplitCheck:
    """Count a split's images, and read and transform those of these indices in this process."""
    counts = np.bincount(split.targets, minlength=len(split.classes))
    usual = float(np.median(counts))
    small = np.flatnonzero(counts < _FEW * usual).tolist()
    unreadable, sides, modes, different = [], [], Counter[str](), set()
    of_one_colour, seconds = 0, 0.0
    for index in indices:
        began = time.perf_counter()
        image = read_or_note(split, index)
        if not isinstance(image, str):
            transform(image)
        seconds += time.perf_counter() - began
        if isinstance(image, str):
            unreadable.append(image)
            continue
        sides.append(min(image.size))
        modes[image.info.get("mode", image.mode)] += 1
        different.add((image.size, blake2b(image.tobytes()).digest()))
        of_one_colour += image.getcolors(maxcolors=1) is not None
    return SplitCheck(
        num_images=len(split),
        images_a_class=(int(counts.min()), usual, int(counts.max())),
        small_classes=tuple(f"{split.classes[target]} ({counts[target]})" for target in small),
        sampled=len(indices),
        unreadable=tuple(unreadable),
        shorter_side_px=(min(sides), float(np.median(sides)), max(sides)) if sides else None,
        modes=dict(modes),
        num_different=len(different),
        num_of_one_colour=of_one_colour,
        images_per_second=len(indices) / seconds,
    )


def measure_workers(split: Split, indices: Sequence[int], transform: Transform, *, workers: int) -> float:
    """Return the images a second that so many processes read and transform together, once all of them are at work.

    They start with a batch each, which takes longer than the sample and does not count.
    """
    keys = [(0, index) for index in indices]
    batches = [keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)]
    due: Any = batches[:workers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than cores: that is asked here
        loader: DataLoader[Any] = DataLoader(
            Samples(split, transform, seed=0, substitutes=None),
            batch_sampler=due,
            num_workers=workers,
            collate_fn=len,
            persistent_workers=True,
        )
        list(loader)
    due[:] = batches[workers:]
    began = time.perf_counter()
    return float(sum(loader) / (time.perf_counter() - began))

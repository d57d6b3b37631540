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
from torch.utils.data import DataLoader, Dataset, get_worker_info

from starsearch.data.augmentation import make_transform
from starsearch.data.dataset import INTERPOLATION, DataSet, Split
from starsearch.data.unreadable import read_or_note
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    from PIL import Image

_FEW = 0.1  # of the median number of images per class
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
    """Return the images a second that so many processes read and transform together.

    What counts is the time in which all of them are at work: starting them takes longer than the sample.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than cores: that is asked here
        loader: DataLoader[Any] = DataLoader(
            _Timed(split, indices, transform), batch_size=4, num_workers=workers, collate_fn=list
        )
        batches = iter(loader)
    ids, begins, ends = np.array([timed for batch in batches for timed in batch]).T
    first = max(begins[ids == worker].min() for worker in np.unique(ids))
    last = min(ends[ids == worker].max() for worker in np.unique(ids))
    inside = int(((begins >= first) & (ends <= last)).sum())
    if last <= first or inside < len(np.unique(ids)):  # some were done before others had begun
        return float(len(ids) / (ends.max() - begins.min()))
    return float(inside / (last - first))


class _Timed(Dataset[tuple[int, float, float]]):
    """Tells of a position the process that read the image, when it began and when it was done (seconds, one clock)."""

    def __init__(self, split: Split, indices: Sequence[int], transform: Transform) -> None:
        self.split, self.indices, self.transform = split, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, float, float]:
        begin = time.perf_counter()
        image = read_or_note(self.split, self.indices[position])
        if not isinstance(image, str):  # tried is what counts; `check_split` names the others
            self.transform(image)
        worker = get_worker_info()
        return (worker.id if worker is not None else 0, begin, time.perf_counter())

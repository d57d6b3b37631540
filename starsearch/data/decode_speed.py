"""How fast images are read and augmented, by one process and by several."""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, get_worker_info

from starsearch.data.dataset import DataSet, Split
from starsearch.data.reading import UNREADABLE, reason_of

if TYPE_CHECKING:
    from PIL import Image

Transform = Callable[["Image.Image"], Any]


def paper_transform(data: DataSet, *, resolution: int) -> Transform:
    """The augmentation of the paper's recipe: random-resized crop, flip, RandAugment (rand-m1-mstd0.5-inc1)."""
    from timm.data import create_transform

    transform: Transform = create_transform(
        (3, resolution, resolution),
        is_training=True,
        auto_augment="rand-m1-mstd0.5-inc1",
        interpolation=data.interpolation,
        mean=data.mean,
        std=data.std,
        use_prefetcher=True,
    )
    return transform


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the reading of some images showed.

    Attributes:
        num_images: that were tried.
        unreadable: their names, and what was wrong.
        shorter_sides: of the readable ones, in pixels, ascending.
        modes: how many of them have which of Pillow's modes.
        num_different: how many of them differ.
        num_of_one_colour: how many of them show one colour and nothing else.
        images_per_second: read and transformed in this process.
    """

    num_images: int
    unreadable: tuple[str, ...]
    shorter_sides: tuple[int, ...]
    modes: dict[str, int]
    num_different: int
    num_of_one_colour: int
    images_per_second: float


def probe(split: Split, indices: Sequence[int], transform: Transform) -> Probe:
    """Read and transform the images of these indices in this process."""
    unreadable, sides, modes, different = [], [], Counter[str](), set()
    of_one_colour, seconds = 0, 0.0
    for index in indices:
        began = time.perf_counter()
        try:
            image = split.read(index)
            transform(image)
        except UNREADABLE as error:
            unreadable.append(f"{split.image_name(index)} ({reason_of(error)})")
            continue
        finally:
            seconds += time.perf_counter() - began
        sides.append(min(image.size))
        modes[image.info.get("mode", image.mode)] += 1
        different.add((image.size, blake2b(image.tobytes()).digest()))
        of_one_colour += image.getcolors(maxcolors=1) is not None
    return Probe(
        num_images=len(indices),
        unreadable=tuple(unreadable),
        shorter_sides=tuple(sorted(sides)),
        modes=dict(modes),
        num_different=len(different),
        num_of_one_colour=of_one_colour,
        images_per_second=len(indices) / seconds,
    )


def measure_workers(split: Split, indices: Sequence[int], transform: Transform, *, workers: int) -> float:
    """Images a second that so many processes read and transform together.

    What counts is the time in which all of them are at work: starting them takes longer than the sample.
    """
    begins: defaultdict[int, list[float]] = defaultdict(list)
    ends: defaultdict[int, list[float]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than cores: that is asked here
        loader: DataLoader[Any] = DataLoader(
            _Timed(split, indices, transform), batch_size=4, num_workers=workers, collate_fn=list
        )
        batches = iter(loader)
    for batch in batches:
        for worker, begin, end in batch:
            begins[worker].append(begin)
            ends[worker].append(end)
    first, last = max(map(min, begins.values())), min(map(max, ends.values()))
    times = np.array([(b, e) for worker in begins for b, e in zip(begins[worker], ends[worker], strict=True)])
    inside = int(((times[:, 0] >= first) & (times[:, 1] <= last)).sum())
    if last <= first or inside < len(begins):  # some were done before others had begun
        return float(len(times) / (times[:, 1].max() - times[:, 0].min()))
    return inside / (last - first)


class _Timed(Dataset[tuple[int, float, float]]):
    """Of a position: the process that read the image, when it began and when it was done (seconds, one clock)."""

    def __init__(self, split: Split, indices: Sequence[int], transform: Transform) -> None:
        self.split, self.indices, self.transform = split, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, float, float]:
        begin = time.perf_counter()
        with suppress(*UNREADABLE):  # tried is what counts; `probe` names them
            self.transform(self.split.read(self.indices[position]))
        worker = get_worker_info()
        return (worker.id if worker is not None else 0, begin, time.perf_counter())

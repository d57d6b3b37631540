"""Images that worker processes decode and augment in each pass, each by a seed of its own.

An image's augmentation is drawn from (seed, epoch, image) alone, so that neither the number of processes nor the place
at which a pass begins makes a difference. A broken image is named, counted, and another one takes its place.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from starsearch.data.augmentation import augment
from starsearch.data.dataset import Split
from starsearch.data.processes import iterate, outlive_signals
from starsearch.data.reading import UNREADABLE, reason_of

Key = tuple[int, int]  # epoch and index of an image
Loaded = tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]
_MOST_TRIES = 20  # for a place in a batch; more in a row are no accident of single files
_MOST_PROCESSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a worker process makes of an image.

    Attributes:
        pixels: (3, height, width), uint8; None where nothing could be read.
        target: its class.
        unreadable: names of the images that could not be read, with the reason.
    """

    pixels: torch.Tensor | None
    target: int
    unreadable: tuple[str, ...]


class Samples(Dataset[Sample]):
    """Decodes, transforms and stands in for broken images, in a worker process.

    Args:
        split: that is read.
        transform: timm's, of a PIL image to uint8 pixels.
        seed: of the training.
        substitutes: indices of which another image is drawn for a broken one; None leaves its place empty.
    """

    def __init__(self, split: Split, transform: Any, *, seed: int, substitutes: NDArray[np.int64] | None) -> None:
        self._split = split
        self._transform = transform
        self._seed = seed
        self._substitutes = substitutes

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        unreadable: list[str] = []
        substitute = np.random.default_rng([self._seed, epoch, index])
        for _ in range(_MOST_TRIES):
            try:
                image = self._split.read(index)
            except UNREADABLE as error:
                unreadable.append(f"{self._split.image_name(index)} ({reason_of(error)})")
            else:
                with _drawing_from(self._seed, epoch, index):
                    pixels = augment(self._transform, image)
                return Sample(pixels=pixels, target=int(self._split.targets[index]), unreadable=tuple(unreadable))
            if self._substitutes is None:
                break
            index = int(substitute.choice(self._substitutes))
        return Sample(pixels=None, target=-1, unreadable=tuple(unreadable))

    def __getstate__(self) -> bytes:
        # Where workers are spawned, not forked, a split's `read`, a closure, is beyond pickle.
        from ray import cloudpickle

        dumps: Any = cloudpickle.dumps  # carries no types
        packed: bytes = dumps(self.__dict__)
        return packed

    def __setstate__(self, packed: bytes) -> None:
        from ray import cloudpickle

        self.__dict__.update(cloudpickle.loads(packed))


@contextmanager
def _drawing_from(*seed: int) -> Iterator[None]:
    """Let the global random states, from which timm's transforms draw, be those of a seed for the time of the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 — timm's, not ours
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.default_generator.manual_seed(number)  # not torch.manual_seed: that would seed the GPUs too
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def collate(samples: list[Sample]) -> Loaded:
    """(batch, height, width, 3) uint8 and (batch,) int64 of what could be read, and the names of what could not."""
    there = [sample for sample in samples if sample.pixels is not None]
    pixels = [sample.pixels for sample in there if sample.pixels is not None]
    names = tuple(name for sample in samples for name in sample.unreadable)
    stacked = torch.stack(pixels).permute(0, 2, 3, 1).contiguous() if pixels else torch.empty(0, dtype=torch.uint8)
    return stacked, torch.tensor([sample.target for sample in there], dtype=torch.int64), names


@dataclass(frozen=True, slots=True)
class _Listed:
    """The keys of each batch of a pass; the last batch may be smaller."""

    epoch: int
    indices: NDArray[np.int64]
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [(self.epoch, int(index)) for index in self.indices[start : start + self.batch_size]]


def load(
    samples: Samples, indices: NDArray[np.int64], *, epoch: int, batch_size: int, workers: int | None, pin: bool
) -> Iterator[Loaded]:
    """A pass over the images of these indices, in their order.

    Args:
        samples: that are read.
        indices: of images, in the order in which they come.
        epoch: by which they are augmented.
        batch_size: images at a time.
        workers: processes; None is as many as torch has threads (of several trainings each has its share), 0 is none.
        pin: whether batches lie in memory from which a GPU fetches them by itself.

    Raises:
        WorkerLostError: a worker process was killed.
    """
    processes = min(_MOST_PROCESSES, torch.get_num_threads()) if workers is None else workers
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=_Listed(epoch, indices, batch_size),
        num_workers=processes,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # its own: a pass that begins in the middle draws no more than one that goes on
    )
    yield from iterate(loader)

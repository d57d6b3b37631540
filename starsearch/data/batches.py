"""Batches for training and validation: from memory where a split fits, else decoded by worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from starsearch.data.augmentation import (
    augment,
    batch_augmentation,
    channel_statistics,
    image_augmentation,
    normalize,
    works_on_single_images,
)
from starsearch.data.dataset import DataSet, Split, choose_balanced
from starsearch.data.memory import Images, decode, fits_memory
from starsearch.data.reading import UNREADABLE
from starsearch.data.share import ALL, Share, order_of_images
from starsearch.data.unreadable import Unreadable
from starsearch.data.workers import Samples, load
from starsearch.errors import DataError
from starsearch.recipe import Recipe

Batch = tuple[torch.Tensor, torch.Tensor]
_PROBED = 16  # images whose size tells whether decoding at the training's resolution loses anything


class Batches(Protocol):
    """One pass over images at each iteration, in batches of (batch, 3, height, width) float32 and (batch,) int64."""

    num_images: int

    def __len__(self) -> int:
        """How many batches a pass has."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """A pass; over training images, that of the first epoch."""
        ...


class TrainingBatches(Batches, Protocol):
    """Batches in an order that follows from the seed and the epoch alone.

    Augmentation of images in memory draws from the global random states; of images that worker processes decode,
    from the seed, the epoch and the image, and only erasing from the global states.
    """

    def begin(self, epoch: int, *, at: int = 0) -> Iterator[Batch]:
        """The pass of an epoch, counted from 1, from batch number `at` on, counted from 0."""
        ...


def training_batches(
    data: DataSet, recipe: Recipe, *, resolution: int, samples: int | None, seed: int, share: Share = ALL
) -> Generator[float, None, TrainingBatches]:
    """Shuffled, augmented, whole batches; yields the share of images decoded, where they are kept in memory.

    Raises:
        DataError: there are fewer images than a batch, or too many are unreadable.
    """
    indices = _chosen(data.train, samples, seed)
    source: Images | Split = data.train
    if _keeps_in_memory(data, recipe, len(indices), resolution):
        source = yield from decode(data, data.train, indices, resolution=resolution)
    num_images = len(source) if isinstance(source, Images) else len(indices)
    if num_images < recipe.batch_size:
        raise DataError(
            f"A training step takes batch_size {recipe.batch_size} images but there are only {num_images:,}: take more "
            f"samples, or `starsearch train --batch-size {largest_filled(num_images)}`."
        )
    if isinstance(source, Images):
        return _MemoryTraining(source, recipe, data, resolution, seed, share)
    return _LoadedTraining(data, recipe, indices, resolution, seed, share)


def largest_filled(num_images: int) -> int:
    """The largest power of two among the batch sizes that so many images fill; 2 where they fill none."""
    return max(2, 1 << num_images.bit_length() - 1)


def validation_batches(
    data: DataSet,
    *,
    resolution: int,
    samples: int | None,
    seed: int,
    batch_size: int,
    crop_pct: float = 1.0,
    share: Share = ALL,
) -> Generator[float, None, Batches]:
    """All images (or `samples` of them) in their order, resized and cropped to their middle.

    Yields as `training_batches` does. Unreadable images are left out.

    Raises:
        DataError: too many images are unreadable.
    """
    indices = _chosen(data.validation, samples, seed)
    in_memory = data.validation.in_memory or fits_memory(len(indices), resolution, data.cache_limit_bytes // 2)
    if in_memory and crop_pct == 1.0:
        images = yield from decode(data, data.validation, indices, resolution=resolution)
        return _MemoryValidation(images, data, batch_size, share)
    return _LoadedValidation(data, indices, resolution, batch_size, crop_pct, share)


def _chosen(split: Split, samples: int | None, seed: int) -> NDArray[np.int64]:
    if samples is None or samples >= len(split):
        return np.arange(len(split))
    return choose_balanced(split.targets, samples, seed=seed)


def _keeps_in_memory(data: DataSet, recipe: Recipe, num_images: int, resolution: int) -> bool:
    """Whether decoded images of the training's resolution fit and are as good as the files."""
    if data.train.in_memory:
        return True
    if not fits_memory(num_images, resolution, data.cache_limit_bytes // 2):
        return False
    if recipe.crop != "random-resized":
        return True
    # A random-resized crop of a decoded image is blurred unless that image is as large as its file's, and never sees
    # what decoding to a square has cut off.
    probed = np.linspace(0, len(data.train) - 1, min(_PROBED, len(data.train))).astype(int)
    return all(_is_small_square(data.train, int(index), resolution) for index in probed)


def _is_small_square(split: Split, index: int, resolution: int) -> bool:
    try:
        width, height = split.read(index).size
    except UNREADABLE:  # decode judges unreadable images
        return True
    return width == height <= resolution


@dataclass(eq=False)
class _MemoryTraining:
    """Batches gathered from decoded images."""

    images: Images
    recipe: Recipe
    data: DataSet
    resolution: int
    seed: int
    share: Share

    def __post_init__(self) -> None:
        self.num_images = len(self.images)
        self._augment = batch_augmentation(self.recipe, self.data, self.resolution, self.share.device)
        one_by_one = works_on_single_images(self.recipe)
        self._transform = image_augmentation(self.recipe, self.data, self.resolution) if one_by_one else None

    def __len__(self) -> int:
        return self.num_images // self.recipe.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self.begin(1)

    def begin(self, epoch: int, *, at: int = 0) -> Iterator[Batch]:
        """As `TrainingBatches` says."""
        order = order_of_images(self.num_images, seed=self.seed, epoch=epoch)
        mine = torch.from_numpy(self.share.of_batches(order, self.recipe.batch_size, at=at))
        for chosen in torch.split(mine, self.recipe.batch_size // self.share.ranks) if len(mine) else ():
            pixels = self.images.pixels[chosen]
            if self._transform is not None:
                pixels = _transform_each(pixels, self._transform)
            yield self._augment(self.share.fetch(pixels)), self.share.fetch(self.images.targets[chosen])


def _transform_each(pixels: torch.Tensor, transform: Any) -> torch.Tensor:
    """A transform of PIL images applied to (batch, height, width, 3) uint8."""
    from PIL import Image

    images = [augment(transform, Image.fromarray(image)) for image in pixels.numpy()]
    return torch.stack(images).permute(0, 2, 3, 1)


@dataclass(eq=False)
class _MemoryValidation:
    """Batches of decoded images, in their order."""

    images: Images
    data: DataSet
    batch_size: int
    share: Share

    def __post_init__(self) -> None:
        self.num_images = len(range(len(self.images))[self.share.rank :: self.share.ranks])

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        mean, std = channel_statistics(self.data, self.share.device)
        mine = slice(self.share.rank, None, self.share.ranks)
        splits = (torch.split(all_[mine], self.batch_size) for all_ in (self.images.pixels, self.images.targets))
        for batch, labels in zip(*splits, strict=True):
            if len(labels):
                yield normalize(self.share.fetch(batch), mean, std), self.share.fetch(labels)


class _LoadedTraining:
    """Batches of images that worker processes decode in each pass."""

    def __init__(
        self, data: DataSet, recipe: Recipe, indices: NDArray[np.int64], resolution: int, seed: int, share: Share
    ) -> None:
        self.num_images = len(indices)
        self._indices, self._seed, self._share, self._batch_size = indices, seed, share, recipe.batch_size
        transform = image_augmentation(recipe, data, resolution)
        self._samples = Samples(data.train, transform, seed=seed, substitutes=indices)
        self._augment = batch_augmentation(recipe, data, resolution, share.device)
        self._unreadable = Unreadable(data.name, data.train, len(indices), "Others take their places.", share)

    def __len__(self) -> int:
        return self.num_images // self._batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self.begin(1)

    def begin(self, epoch: int, *, at: int = 0) -> Iterator[Batch]:
        """As `TrainingBatches` says."""
        order = self._indices[order_of_images(self.num_images, seed=self._seed, epoch=epoch)]
        share = self._share
        loaded = load(
            self._samples,
            share.of_batches(order, self._batch_size, at=at),
            epoch=epoch,
            batch_size=self._batch_size // share.ranks,
            workers=share.workers,
            pin=share.pins,
        )
        for pixels, targets, unreadable in loaded:
            self._unreadable.note(unreadable)
            yield self._augment(share.fetch(pixels)), share.fetch(targets)
        self._unreadable.tell()


class _LoadedValidation:
    """Batches of images that worker processes decode, in their order; `num_images` counts broken ones until a pass."""

    def __init__(
        self,
        data: DataSet,
        indices: NDArray[np.int64],
        resolution: int,
        batch_size: int,
        crop_pct: float,
        share: Share,
    ) -> None:
        from timm.data import create_transform

        self._indices, self._share, self._batch_size = share.of_images(indices), share, batch_size
        self.num_images = len(self._indices)
        transform = create_transform(
            (3, resolution, resolution), interpolation=data.interpolation, crop_pct=crop_pct, use_prefetcher=True
        )
        self._samples = Samples(data.validation, transform, seed=0, substitutes=None)
        self._statistics = channel_statistics(data, share.device)
        self._unreadable = Unreadable(data.name, data.validation, len(indices), share=share)

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        share, seen = self._share, 0
        loaded = load(
            self._samples,
            self._indices,
            epoch=0,
            batch_size=self._batch_size,
            workers=share.workers,
            pin=share.pins,
        )
        for pixels, targets, unreadable in loaded:
            self._unreadable.note(unreadable)
            seen += len(targets)
            if len(targets):
                yield normalize(share.fetch(pixels), *self._statistics), share.fetch(targets)
        self.num_images = seen
        self._unreadable.tell()

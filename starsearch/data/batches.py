"""Batches for training and validation: from memory where a split fits, else by timm's data set and worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from starsearch.data.augmentation import (
    BatchAugmentation,
    batch_augmentation,
    channel_statistics,
    image_augmentation,
    normalize,
    works_on_single_images,
)
from starsearch.data.dataset import DataSet, Split, choose_balanced
from starsearch.data.memory import Images, decode, fits_memory
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
        """A pass; training passes are shuffled and augmented anew from torch's global random state."""
        ...


def training_batches(
    data: DataSet, recipe: Recipe, *, resolution: int, samples: int | None, seed: int
) -> Generator[float, None, Batches]:
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
            f"A training step takes batch_size {recipe.batch_size} images but there are only {num_images:,}; "
            "choose a smaller batch_size or more samples."
        )
    if isinstance(source, Images):
        return _MemoryTraining(source, recipe, data, resolution)
    return _LoadedTraining(data, recipe, indices, resolution)


def validation_batches(
    data: DataSet, *, resolution: int, samples: int | None, seed: int, batch_size: int
) -> Generator[float, None, Batches]:
    """All images (or `samples` of them), resized and cropped to their middle; yields as `training_batches` does.

    Raises:
        DataError: too many images are unreadable.
    """
    indices = _chosen(data.validation, samples, seed)
    if data.validation.timm_dataset is None or fits_memory(len(indices), resolution, data.cache_limit_bytes // 2):
        images = yield from decode(data, data.validation, indices, resolution=resolution)
        return _MemoryValidation(images, data, batch_size)
    return _LoadedValidation(data, indices, resolution, batch_size)


def _chosen(split: Split, samples: int | None, seed: int) -> NDArray[np.int64]:
    if samples is None or samples >= len(split):
        return np.arange(len(split))
    return choose_balanced(split.targets, samples, seed=seed)


def _keeps_in_memory(data: DataSet, recipe: Recipe, num_images: int, resolution: int) -> bool:
    """Whether decoded images of the training's resolution fit and are as good as the files."""
    if data.train.timm_dataset is None:
        return True
    if not fits_memory(num_images, resolution, data.cache_limit_bytes // 2):
        return False
    if recipe.crop != "random-resized":
        return True
    # A random-resized crop of a decoded image is blurred unless that image is as large as its file's.
    probed = np.linspace(0, len(data.train) - 1, min(_PROBED, len(data.train))).astype(int)
    return all(_shorter_side(data.train, int(index)) <= resolution for index in probed)


def _shorter_side(split: Split, index: int) -> int:
    try:
        return min(split.read(index).size)
    except (OSError, SyntaxError, ValueError):  # decode judges unreadable images
        return 0


@dataclass(eq=False)
class _MemoryTraining:
    """Batches gathered from decoded images."""

    images: Images
    recipe: Recipe
    data: DataSet
    resolution: int

    def __post_init__(self) -> None:
        self.num_images = len(self.images)
        self._augment = batch_augmentation(self.recipe, self.data, self.resolution)
        one_by_one = works_on_single_images(self.recipe)
        self._transform = image_augmentation(self.recipe, self.data, self.resolution) if one_by_one else None

    def __len__(self) -> int:
        return self.num_images // self.recipe.batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self.num_images)
        for chosen in torch.split(order[: len(self) * self.recipe.batch_size], self.recipe.batch_size):
            pixels = self.images.pixels[chosen]
            if self._transform is not None:
                pixels = _transform_each(pixels, self._transform)
            yield self._augment(pixels), self.images.targets[chosen]


def _transform_each(pixels: torch.Tensor, transform: Any) -> torch.Tensor:
    """A transform of PIL images applied to (batch, height, width, 3) uint8."""
    from PIL import Image

    images = [transform(Image.fromarray(image)) for image in pixels.numpy()]
    return torch.stack(images).permute(0, 2, 3, 1)


@dataclass(eq=False)
class _MemoryValidation:
    """Batches of decoded images, in their order."""

    images: Images
    data: DataSet
    batch_size: int

    def __post_init__(self) -> None:
        self.num_images = len(self.images)

    def __len__(self) -> int:
        return -(-self.num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        mean, std = channel_statistics(self.data)
        pixels, targets = (torch.split(all_, self.batch_size) for all_ in (self.images.pixels, self.images.targets))
        for batch, labels in zip(pixels, targets, strict=True):
            yield normalize(batch, mean, std), labels


class _Loaded:
    """Images that worker processes decode in each pass; timm puts the next image in an unreadable one's place."""

    def __init__(self, split: Split, indices: NDArray[np.int64], transform: Any, **options: Any) -> None:
        from torch.utils.data import DataLoader, Subset

        split.timm_dataset.transform = transform
        self.num_images = len(indices)
        self._loader = DataLoader(
            Subset(split.timm_dataset, indices.tolist()),
            num_workers=min(8, torch.get_num_threads()),  # of several trainings each has its share
            collate_fn=_collate,
            **options,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for pixels, targets in self._loader:
            yield self._finish(pixels), targets

    def _finish(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def _collate(samples: list[tuple[Any, int]]) -> Batch:
    """Transformed images (3, height, width) and classes to (batch, height, width, 3) uint8 and (batch,) int64."""
    pixels = torch.stack([image for image, _ in samples]).permute(0, 2, 3, 1)
    return pixels.contiguous(), torch.tensor([int(target) for _, target in samples])


class _LoadedTraining(_Loaded):
    def __init__(self, data: DataSet, recipe: Recipe, indices: NDArray[np.int64], resolution: int) -> None:
        transform = image_augmentation(recipe, data, resolution)
        super().__init__(data.train, indices, transform, batch_size=recipe.batch_size, shuffle=True, drop_last=True)
        self._augment: BatchAugmentation = batch_augmentation(recipe, data, resolution)

    def _finish(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._augment(pixels)


class _LoadedValidation(_Loaded):
    def __init__(self, data: DataSet, indices: NDArray[np.int64], resolution: int, batch_size: int) -> None:
        from timm.data import create_transform

        size = (3, resolution, resolution)
        transform = create_transform(size, interpolation=data.interpolation, crop_pct=1.0, use_prefetcher=True)
        super().__init__(data.validation, indices, transform, batch_size=batch_size)
        self._statistics = channel_statistics(data)

    def _finish(self, pixels: torch.Tensor) -> torch.Tensor:
        return normalize(pixels, *self._statistics)

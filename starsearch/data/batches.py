"""Batches for training and validation: from memory where a split fits, else decoded by worker processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from starsearch.data.augmentation import augment, batch_augmentation, image_augmentation, normalize, resized_whole
from starsearch.data.dataset import DataSet, Split, choose_balanced
from starsearch.data.memory import Images, check_packed, decode, fits_memory
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.unreadable import Unreadable, read_or_note
from starsearch.data.workers import LoadedImages, Samples, drawing_from, num_workers
from starsearch.errors import DataError
from starsearch.recipe import Recipe
from starsearch.resolution import Resolution, area, sides

Names = tuple[str, ...]
_ORDER = 0x0BDE2  # keeps the draw of an order apart from others of the same seed
_AUGMENTATION = 0xA06  # the same of what is drawn for a batch
_PROBED = 16  # images whose size tells whether decoding at the training's resolution loses anything


@dataclass(frozen=True, slots=True, kw_only=True)
class RankShare:
    """Which images of each batch are this process's, among those that train together.

    Batches are augmented and handed over on `device`; `gather` turns a rank's names into those of every rank, in order,
    and is called by all at the end of a pass.
    """

    rank: int = 0
    ranks: int = 1
    device: str = "cpu"
    workers: int | None = None
    gather: Callable[[Names], Sequence[Names]] = lambda names: (names,)

    def training_indices(self, order: NDArray[np.int64], batch_size: int, *, start_batch: int = 0) -> NDArray[np.int64]:
        """Return this rank's part of each whole batch of an order, from one batch on, one after another."""
        whole = order[: len(order) // batch_size * batch_size].reshape(-1, self.ranks, batch_size // self.ranks)
        return whole[start_batch:, self.rank].reshape(-1)

    def validation_indices(self, num_images: int) -> NDArray[np.int64]:
        """Return the images that this rank validates; together the ranks have each once."""
        return np.arange(self.rank, num_images, self.ranks)

    @property
    def on_gpu(self) -> bool:
        """Whether the device has a memory of its own."""
        return self.device.startswith("cuda")


ALONE = RankShare()


def order_of_images(num_images: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return (num_images,), the order in which an epoch goes through them."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(num_images)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batches:
    """One pass over images at each iteration, in batches of (batch, 3, height, width) float32 and (batch,) int64.

    Training images come in an order that follows from seed and epoch alone. What is drawn for a whole batch follows
    from the seed, the epoch, the batch's number and the rank; for an image that worker processes decode, from the seed,
    the epoch and the image. The global random states are left alone.

    Attributes:
        indices: returns the images of an epoch in order, from a batch on.
        batch_size: images of a batch, of this rank.
        num_batches: batches of a pass; unreadable validation images may make some smaller, or fewer.
        finish: turns (batch, height, width, 3) uint8 on the device into what the network sees, given the epoch and the
            batch's number in it, from 0.
    """

    images: Images | LoadedImages
    indices: Callable[[int, int], NDArray[np.int64]]
    batch_size: int
    num_batches: int
    finish: Callable[[torch.Tensor, int, int], torch.Tensor]
    share: RankShare

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self.begin(1)

    def begin(self, epoch: int, *, start_batch: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of an epoch, counted from 1, from a batch on, counted from 0."""
        indices = self.indices(epoch, start_batch)
        batches = self.images.load(indices, epoch=epoch, batch_size=self.batch_size)
        if self.share.on_gpu and not (isinstance(self.images, Images) and self.images.pixels.is_cuda):
            batches = _copied_ahead(batches, self.share.device)
        for number, (pixels, targets) in enumerate(batches, start=start_batch):
            yield self.finish(pixels, epoch, number), targets


def _copied_ahead(
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]], device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches on the GPU; the next one is fetched and copied there while the GPU is busy with the one before."""
    make_stream: Any = torch.cuda.Stream  # torch has no types for it
    copies, ahead = make_stream(device), None
    for batch in chain(batches, [()]):
        with torch.cuda.stream(copies):
            # Pinned, since a copy from other memory is waited for. torch keeps it until the copy is done.
            pinned = [part if part.is_pinned() else part.pin_memory() for part in batch]
            copied = [part.to(device, non_blocking=True) for part in pinned]
        if ahead:
            current = torch.cuda.current_stream(copies.device)
            current.wait_stream(copies)
            for part in ahead:
                part.record_stream(current)  # its memory is not reused before the work from here on
            yield ahead[0], ahead[1]
        ahead = copied


def training_batches(
    data: DataSet, recipe: Recipe, *, resolution: Resolution, samples: int | None, seed: int, share: RankShare = ALONE
) -> Generator[float, None, Batches]:
    """Return shuffled, augmented, whole batches; yield the fraction of images decoded, if they are kept in memory.

    Images in memory are augmented batch by batch on the device, but for RandAugment and other policies, which have no
    such form: a GPU would wait for them, so that worker processes carry them out there.
    """
    check_packed(data, data.train, resolution)
    chosen, transform = _chosen(data.train, samples, seed), image_augmentation(recipe, data, resolution)
    images: Images | LoadedImages
    single = recipe.auto_augment is not None
    fits = _keeps_in_memory(data, recipe, len(chosen), resolution)
    in_memory = fits and not (single and share.on_gpu)
    if share.on_gpu and not in_memory and (fits or recipe.crop != "random-resized"):
        taken, most = 3 * len(chosen) * area(resolution), data.cache_limit_bytes // 2
        why = (
            f"auto_augment {recipe.auto_augment} is done image by image; a recipe without it is augmented on the GPU"
            if single
            else f"they take {taken / 1e9:,.2f} GB at {resolution} px, {(taken - most) / 1e9:,.2f} GB more than is "
            "kept; `starsearch data pack` decodes them once"
        )
        warnings.warn(
            f"{num_workers(share.workers)} processes prepare the training images in each epoch, for which a GPU may "
            f"wait: {why}.",
            stacklevel=2,
        )
    if in_memory:
        images = yield from decode(data, data.train, chosen, resolution=resolution, device=share.device)
        chosen = chosen if images.is_mapped else np.arange(len(images))
    else:
        images = LoadedImages(
            Samples(data.train, transform, seed=seed, substitutes=chosen),
            Unreadable(data.name, data.train, len(chosen), "Others take their places.", share.gather),
            workers=share.workers,
            pin=share.on_gpu,
        )
    if len(chosen) < recipe.batch_size:
        raise DataError(
            f"A training step takes batch_size {recipe.batch_size} images but there are only {len(chosen):,}: take "
            f"more samples, or `starsearch train --batch-size {largest_filled(len(chosen))}`."
        )
    after_single = single or not in_memory
    augment_batch = batch_augmentation(recipe, data, resolution, share.device, after_single=after_single)
    generator = torch.Generator(share.device)

    def indices(epoch: int, start_batch: int) -> NDArray[np.int64]:
        order = chosen[order_of_images(len(chosen), seed=seed, epoch=epoch)]
        return share.training_indices(order, recipe.batch_size, start_batch=start_batch)

    def finish(pixels: torch.Tensor, epoch: int, number: int) -> torch.Tensor:
        key = (seed, epoch, number, share.rank, _AUGMENTATION)
        if in_memory and single:
            with drawing_from(*key):
                pixels = _transform_each(pixels, transform)
        generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        return augment_batch(pixels, generator)

    return Batches(
        images=images,
        indices=indices,
        batch_size=recipe.batch_size // share.ranks,
        num_batches=len(chosen) // recipe.batch_size,
        finish=finish,
        share=share,
    )


def largest_filled(num_images: int) -> int:
    """Return the largest power of two among the batch sizes that so many images fill; 2 if they fill none."""
    return max(2, 1 << num_images.bit_length() - 1)


def validation_batches(
    data: DataSet,
    preprocessing: Preprocessing,
    *,
    samples: int | None = None,
    seed: int = 0,
    batch_size: int,
    share: RankShare = ALONE,
    keep: bool = True,
    consequence: str = "They are left out.",
) -> Generator[float, None, Batches]:
    """Return the validation images, or a choice of `samples`, in their order, prepared; yield as `training_batches`.

    Args:
        samples: how many, equally many of every class and chosen by `seed`; None for all.
        keep: whether decoded images that fit are kept in memory for further passes.
        consequence: what the warning of unreadable images says is done about them; "" warns of nothing.
    """
    split, chosen, resolution = data.validation, _chosen(data.validation, samples, seed), preprocessing.resolution
    if isinstance(resolution, str):
        check_packed(data, split, resolution)
    images: Images | LoadedImages
    fits = split.in_memory or fits_memory(len(chosen), resolution, data.cache_limit_bytes // 2)
    if keep and fits and preprocessing.crop_pct == 1.0:
        images = yield from decode(data, split, chosen, resolution=resolution, device=share.device)
        chosen = chosen if images.is_mapped else np.arange(len(images))
    else:
        images = LoadedImages(
            Samples(split, preprocessing.transform(), seed=0, substitutes=None),
            Unreadable(data.name, split, len(chosen), consequence, share.gather),
            workers=0 if split.in_memory else share.workers,
            pin=share.on_gpu,
        )
    mine = chosen[share.validation_indices(len(chosen))]
    mean, std = (255 * torch.tensor(part, device=share.device) for part in (preprocessing.mean, preprocessing.std))
    return Batches(
        images=images,
        indices=lambda _epoch, _start: mine,
        batch_size=batch_size,
        num_batches=-(-len(mine) // batch_size),
        finish=lambda pixels, _epoch, _number: normalize(resized_whole(pixels, resolution), mean, std),
        share=share,
    )


def _chosen(split: Split, samples: int | None, seed: int) -> NDArray[np.int64]:
    if samples is None or samples >= len(split):
        return np.arange(len(split))
    return choose_balanced(split.targets, samples, seed=seed)


def _keeps_in_memory(data: DataSet, recipe: Recipe, num_images: int, resolution: Resolution) -> bool:
    """Whether decoded images of the training's resolution fit and are as good as the files."""
    if data.train.in_memory:
        return True
    if not fits_memory(num_images, resolution, data.cache_limit_bytes // 2):
        return False
    if recipe.crop != "random-resized":
        return True
    # A random-resized crop of a decoded image is blurred unless that image is as large as its file's, and never sees
    # what decoding to the shape of `resolution` has cut off.
    probed = np.linspace(0, len(data.train) - 1, min(_PROBED, len(data.train))).astype(int)
    images = (read_or_note(data.train, int(index)) for index in probed)  # decode judges unreadable images
    height, width = sides(resolution)
    return all(
        isinstance(image, str) or (image.height <= height and image.height * width == image.width * height)
        for image in images
    )


def _transform_each(pixels: torch.Tensor, transform: Any) -> torch.Tensor:
    """Apply a transform of PIL images to (batch, height, width, 3) uint8."""
    images = [augment(transform, Image.fromarray(image)) for image in pixels.numpy()]
    return torch.stack(images).permute(0, 2, 3, 1)

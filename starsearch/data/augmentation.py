"""What a recipe does to training images, on whole batches where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from starsearch.data.dataset import INTERPOLATION, DataSet
from starsearch.errors import EvaluationError
from starsearch.recipe import Recipe

_MOST_DRAWS = 10  # of an image's augmentation; one in a hundred fails


Augment = Callable[[torch.Tensor], torch.Tensor]


def batch_augmentation(recipe: Recipe, data: DataSet, resolution: int, device: str = "cpu") -> Augment:
    """Return padded crop, flip, normalisation and random erasing of whole batches, as the recipe says.

    It takes (batch, height, width, 3) uint8, after `image_augmentation`, and returns (batch, 3, height, width) float32.
    """
    mean, std = (255 * torch.tensor(values, device=device) for values in (data.mean, data.std))
    padding = max(1, resolution // 8) if recipe.crop == "pad" else 0
    hflip = recipe.hflip if recipe.crop != "random-resized" else 0.0  # timm's random-resized crop flips too
    erase: Augment | None = None
    if recipe.random_erasing:
        from timm.data.random_erasing import RandomErasing

        erasing: Any = RandomErasing  # timm has no types
        erase = erasing(recipe.random_erasing, mode="pixel", device=device)

    def augment_batch(pixels: torch.Tensor) -> torch.Tensor:
        if padding or hflip:
            pixels = _crop_and_flip(pixels, padding, hflip)
        images = normalize(pixels, mean, std)
        return erase(images) if erase else images

    return augment_batch


def _crop_and_flip(pixels: torch.Tensor, padding: int, hflip: float) -> torch.Tensor:
    """Crop each image at a random place of the padded one and perhaps flip it, all in one gather."""
    batch, height, width, _ = pixels.shape
    padded = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    rows = torch.arange(height) + torch.randint(0, 2 * padding + 1, (batch, 1))
    columns = torch.arange(width) + torch.randint(0, 2 * padding + 1, (batch, 1))
    columns = torch.where(torch.rand(batch, 1) < hflip, columns.flip(1), columns)
    places = torch.arange(batch).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)
    first, second, third = (place.to(pixels.device) for place in places)
    return padded[first, second, third]


def normalize(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return (batch, height, width, 3) uint8 as (batch, 3, height, width) float32 in `channels_last`."""
    return pixels.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def image_augmentation(recipe: Recipe, data: DataSet, resolution: int) -> Any:
    """Return timm's transform of one PIL image to (3, resolution, resolution) uint8: crop, RandAugment, colour."""
    whole = recipe.crop != "random-resized"
    return make_transform(
        recipe.auto_augment,
        resolution,
        scale=(1.0, 1.0) if whole else recipe.crop_scale,
        ratio=(1.0, 1.0) if whole else None,
        hflip=0.0 if whole else recipe.hflip,
        color_jitter=recipe.color_jitter,
        interpolation=recipe.train_interpolation or INTERPOLATION,
        mean=data.mean,
        std=data.std,
        use_prefetcher=True,
    )


def make_transform(auto_augment: str | None, resolution: int, **options: Any) -> Any:
    """Return timm's transform for training with a policy."""
    from timm.data import create_transform

    try:
        return create_transform((3, resolution, resolution), is_training=True, auto_augment=auto_augment, **options)
    except (AssertionError, ValueError, LookupError) as error:  # as timm's factories reject a text
        raise EvaluationError(
            f"timm has no augmentation policy {auto_augment!r} ({error}); it has rand-m9-mstd0.5-inc1, augmix-m3-w3, "
            "3a, original, v0 and their like."
        ) from error


def augment(transform: Any, image: Any) -> Any:
    """Apply a transform to a PIL image, and draw it again if it cannot be carried out.

    timm's RandAugment of a magnitude near 10 may ask for a posterised image of 0 bits, which Pillow once made black and
    now refuses.
    """
    for _ in range(_MOST_DRAWS - 1):
        try:
            return transform(image)
        except ValueError:
            continue
    return transform(image)


def works_on_single_images(recipe: Recipe) -> bool:
    """Whether the recipe asks for more than `batch_augmentation` can do."""
    return bool(recipe.crop == "random-resized" or recipe.auto_augment or recipe.color_jitter)

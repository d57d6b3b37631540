"""What a recipe does to training images: on whole batches, on their device, where that is possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from starsearch.data.dataset import INTERPOLATION, DataSet
from starsearch.errors import EvaluationError
from starsearch.recipe import Recipe
from starsearch.resolution import Resolution, sides

_MOST_DRAWS = 10  # of an image's augmentation, one in a hundred of which fails; of a box, as in timm
_CROP_RATIO = (3 / 4, 4 / 3)  # timm's defaults, as those of the erased boxes
_ERASED_SCALE, _ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)


Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def batch_augmentation(
    recipe: Recipe, data: DataSet, resolution: Resolution, device: str = "cpu", *, after_single: bool = False
) -> Augment:
    """Return crop, flip, colour, normalisation and random erasing of whole batches, as the recipe says.

    It takes (batch, height, width, 3) uint8 and a generator, both on the device, and returns (batch, 3,
    *sides(resolution)) float32. All draws are the generator's, and a GPU is never waited for.

    Args:
        after_single: whether `image_augmentation` has been at work: what it does is left out.
    """
    mean, std = (255 * torch.tensor(values, device=device) for values in (data.mean, data.std))
    resized = recipe.crop == "random-resized"
    padding = max(1, min(sides(resolution)) // 8) if recipe.crop == "pad" else 0

    def augment_batch(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if resized and not after_single:
            pixels = _crop_at_random(pixels, resolution, recipe, generator)
        pixels = resized_whole(pixels, resolution)
        if recipe.color_jitter and not recipe.auto_augment and not after_single:
            pixels = _jitter_colour(pixels, recipe.color_jitter, generator)
        if not resized and (padding or recipe.hflip):
            pixels = _crop_and_flip(pixels, padding, recipe.hflip, generator)
        images = normalize(pixels, mean, std)
        return _erase(images, recipe.random_erasing, generator) if recipe.random_erasing else images

    return augment_batch


def _crop_and_flip(pixels: torch.Tensor, padding: int, hflip: float, generator: torch.Generator) -> torch.Tensor:
    """Crop each image at a random place of the padded one and perhaps flip it, all in one gather."""
    batch, height, width, _ = pixels.shape
    on: dict[str, Any] = {"device": pixels.device}
    padded = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, **on)
    rows, columns = torch.arange(height, **on) + tops, torch.arange(width, **on) + lefts
    flips = torch.rand(batch, 1, generator=generator, **on) < hflip
    columns = torch.where(flips, columns.flip(1), columns)
    return padded[torch.arange(batch, **on).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]


def resized_whole(pixels: torch.Tensor, resolution: Resolution) -> torch.Tensor:
    """Return whole images resized as those that are kept in memory are, or as they are if they have that size."""
    if pixels.shape[1:3] == (size := sides(resolution)):
        return pixels
    maps = pixels.permute(0, 3, 1, 2).float()  # antialiased, torch's cubic is Pillow's
    resized = functional.interpolate(maps, size=size, mode="bicubic", antialias=True)
    return resized.clamp_(0, 255).permute(0, 2, 3, 1).contiguous()


Boxes = tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def _crop_at_random(
    pixels: torch.Tensor, resolution: Resolution, recipe: Recipe, generator: torch.Generator
) -> torch.Tensor:
    """Return timm's random-resized crop and flip of each image, as float32."""
    batch, height, width, _ = pixels.shape
    draw = partial(torch.rand, generator=generator, device=pixels.device)
    ratio = _crop_ratio(resolution, _CROP_RATIO)
    boxes = draw_boxes(draw, batch, (height, width), recipe.crop_scale, ratio, otherwise=(height, width))
    kind = recipe.train_interpolation or INTERPOLATION
    is_cubic = draw(batch) < {"bilinear": 0.0, "bicubic": 1.0, "random": 0.5}[kind]
    return crop_and_resize(pixels, boxes, resolution, is_cubic=is_cubic, flips=draw(batch) < recipe.hflip)


def crop_and_resize(
    pixels: torch.Tensor, boxes: Boxes, resolution: Resolution, *, is_cubic: torch.Tensor, flips: torch.Tensor
) -> torch.Tensor:
    """Return each image's box resized as Pillow does it, (batch, *sides(resolution), 3) float32 in 0..255.

    `is_cubic` and `flips` are (batch,). Each side is a product with a matrix, its filter's weights.
    """
    _, height, width, _ = pixels.shape
    rows, columns = (
        _resampling(*box, length, side, is_cubic)
        for box, length, side in zip(boxes, (height, width), sides(resolution), strict=True)
    )
    columns = torch.where(flips.view(-1, 1, 1), columns.flip(1), columns)
    maps = rows.unsqueeze(1) @ pixels.permute(0, 3, 1, 2).float() @ columns.mT.unsqueeze(1)
    return maps.clamp_(0, 255).permute(0, 2, 3, 1).contiguous()


def draw_boxes(
    draw: Callable[..., torch.Tensor],
    batch: int,
    within: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    otherwise: tuple[int, int],
) -> Boxes:
    """Draw a box in each image of a height and width, as timm does for random-resized crops and for erasing.

    Returns first row and height, first column and width, each (batch,). Of ten boxes, with areas that are uniform in
    `scale` and widths by heights that are log-uniform in `ratio`, it is the first that fits; if none does, a centred
    one of the size `otherwise`. An erased box does not fit with a whole side, for which `otherwise` is smaller.
    """
    height, width = within
    areas = height * width * (scale[0] + (scale[1] - scale[0]) * draw(batch, _MOST_DRAWS))
    low, high = map(math.log, ratio)
    aspects = torch.exp(low + (high - low) * draw(batch, _MOST_DRAWS))
    sizes = torch.stack([torch.sqrt(areas / aspects), torch.sqrt(areas * aspects)]).round()
    smaller = int(otherwise != within)
    fits = (sizes[0] <= height - smaller) & (sizes[1] <= width - smaller)
    first = (fits.cumsum(1) == 0).sum(1, keepdim=True)  # how many do not fit before one that does
    fitting = sizes.gather(2, first.clamp(max=_MOST_DRAWS - 1).expand(2, -1, -1)).squeeze(2)
    found = first.squeeze(1) < _MOST_DRAWS
    sides = []
    for length, size, other, place in zip(within, fitting, otherwise, draw(2, batch), strict=True):
        start = torch.where(found, (place * (length - size + 1)).floor(), float((length - other) // 2))
        sides.append((start, torch.where(found, size, float(other))))
    return sides[0], sides[1]


def _resampling(
    start: torch.Tensor, size: torch.Tensor, length: int, side: int, is_cubic: torch.Tensor
) -> torch.Tensor:
    """Return (batch, side, length), the weights by which Pillow resizes a stretch of rows or columns.

    Its filters are the triangle and Keys' cubic with a = -0.5, as wide as the scale where that is above 1, and see
    nothing beyond the stretch. `start`, `size` and `is_cubic` are (batch,).
    """
    start, size, is_cubic = (part.view(-1, 1, 1) for part in (start, size, is_cubic))
    scale = size / side
    centers = (torch.arange(side, device=start.device).view(-1, 1) + 0.5) * scale
    places = torch.arange(length, device=start.device) - start
    far = ((places + 0.5 - centers) / scale.clamp(min=1)).abs()
    triangle = (1 - far).clamp(min=0)
    outer = torch.where(far < 2, ((-0.5 * far + 2.5) * far - 4) * far + 2, 0.0)
    cubic = torch.where(far < 1, (1.5 * far - 2.5) * far.square() + 1, outer)
    weights = torch.where(is_cubic, cubic, triangle) * ((places >= 0) & (places < size))
    return weights / weights.sum(2, keepdim=True)


def _jitter_colour(pixels: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Change brightness, contrast and saturation of each image, in an order of its own, as torchvision does."""
    batch = len(pixels)
    draw = partial(torch.rand, generator=generator, device=pixels.device)
    low = max(0.0, 1 - strength)
    return change_colour(pixels.float(), low + (1 + strength - low) * draw(3, batch), draw(3, batch).argsort(0))


def change_colour(images: torch.Tensor, factors: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return (batch, height, width, 3) changed by `factors` (3, batch): 0 brightness, 1 contrast, 2 saturation.

    `order` (3, batch) says which of them comes first, second and third. Each mixes the image with another one: black,
    its mean grey, or itself in grey.
    """
    factors = factors.gather(0, order)
    for which, factor in zip(order.view(3, -1, 1, 1, 1), factors.view(3, -1, 1, 1, 1), strict=True):
        red, green, blue = images.unbind(3)
        grey = (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(3)  # ITU-R 601-2, as Pillow has it
        other = torch.where(which == 1, grey.mean((1, 2), keepdim=True), torch.where(which == 2, grey, 0.0))
        images = (other + factor * (images - other)).clamp_(0, 255)
    return images


def _erase(images: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Fill a box of some images with noise, as timm's `RandomErasing` does in its mode "pixel"."""
    batch, _, height, width = images.shape
    draw = partial(torch.rand, generator=generator, device=images.device)
    boxes = draw_boxes(draw, batch, (height, width), _ERASED_SCALE, _ERASED_RATIO, otherwise=(0, 0))
    rows, columns = _inside(*boxes[0], height), _inside(*boxes[1], width)
    erased = rows.view(batch, 1, height, 1) & columns.view(batch, 1, 1, width)
    erased &= draw(batch, 1, 1, 1) < probability
    return torch.where(erased, torch.empty_like(images).normal_(generator=generator), images)


def _inside(start: torch.Tensor, size: torch.Tensor, length: int) -> torch.Tensor:
    """Return (batch, length), whether a row or column is one of a box's."""
    places = torch.arange(length, device=start.device)
    return (places >= start.unsqueeze(1)) & (places < (start + size).unsqueeze(1))


def normalize(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return (batch, height, width, 3) uint8 as (batch, 3, height, width) float32 in `channels_last`."""
    return pixels.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def image_augmentation(recipe: Recipe, data: DataSet, resolution: Resolution) -> Any:
    """Return timm's transform of one PIL image to (3, *sides(resolution)) uint8: crop, RandAugment, colour."""
    whole = recipe.crop != "random-resized"
    return make_transform(
        recipe.auto_augment,
        resolution,
        scale=(1.0, 1.0) if whole else recipe.crop_scale,
        ratio=_crop_ratio(resolution, (1.0, 1.0) if whole else _CROP_RATIO),
        hflip=0.0 if whole else recipe.hflip,
        color_jitter=recipe.color_jitter,
        interpolation=recipe.train_interpolation or INTERPOLATION,
        mean=data.mean,
        std=data.std,
        use_prefetcher=True,
    )


def _crop_ratio(resolution: Resolution, of_square: tuple[float, float]) -> tuple[float, float]:
    """Return widths by heights of crops that are stretched to `resolution` as those `of_square` are to a square."""
    height, width = sides(resolution)
    return of_square[0] * width / height, of_square[1] * width / height


def make_transform(auto_augment: str | None, resolution: Resolution, **options: Any) -> Any:
    """Return timm's transform for training with a policy."""
    from timm.data import create_transform

    try:
        return create_transform((3, *sides(resolution)), is_training=True, auto_augment=auto_augment, **options)
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

"""Splits that are decoded once, at the resolution they are used at, and kept over the trials of a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from starsearch.data.dataset import DataSet, Split
from starsearch.data.reading import UNREADABLE, reason_of
from starsearch.data.unreadable import Unreadable

_PROGRESS_EVERY = 500  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Decoded images.

    Attributes:
        pixels: (n, resolution, resolution, 3), uint8: the colours of a pixel together, as `channels_last` has them.
        targets: (n,), int64.
    """

    pixels: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_bytes(self) -> int:
        """What the pixels take in memory."""
        return self.pixels.numel()


_Key = tuple[str, str, int, str, str]
_kept: OrderedDict[_Key, Images] = OrderedDict()


def fits_memory(num_images: int, resolution: int, limit_bytes: int) -> bool:
    """Whether so many decoded images stay within the limit."""
    return 3 * num_images * resolution**2 <= limit_bytes


def decode(
    data: DataSet, split: Split, indices: NDArray[np.int64], *, resolution: int
) -> Generator[float, None, Images]:
    """Decode images, or find them decoded; yields the share that is done now and then.

    An image is resized so that its shorter side is `resolution`, and cropped to the square in its middle.
    Unreadable images are left out with a warning.

    Raises:
        DataError: more than one in a hundred images cannot be read.
    """
    key = (data.fingerprint, split.name, resolution, data.interpolation, str(hash(indices.tobytes())))
    if key not in _kept:
        images = yield from _decode(data, split, indices, resolution)
        _make_room(data.cache_limit_bytes - images.num_bytes)
        _kept[key] = images
    _kept.move_to_end(key)
    return _kept[key]


def _make_room(limit_bytes: int) -> None:
    """Forget the images that were not used for longest, until the rest stays within the limit."""
    while _kept and sum(images.num_bytes for images in _kept.values()) > limit_bytes:
        _kept.popitem(last=False)


def _decode(data: DataSet, split: Split, indices: NDArray[np.int64], resolution: int) -> Generator[float, None, Images]:
    from timm.data import create_transform

    transform = create_transform(
        (3, resolution, resolution), interpolation=data.interpolation, crop_pct=1.0, use_prefetcher=True
    )
    pixels = torch.empty(len(indices), resolution, resolution, 3, dtype=torch.uint8)
    readable: list[int] = []
    unreadable: list[str] = []
    for done, index in enumerate(indices.tolist()):
        try:
            pixels[len(readable)] = transform(split.read(index)).permute(1, 2, 0)
            readable.append(index)
        except UNREADABLE as error:
            unreadable.append(f"{split.image_name(index)} ({reason_of(error)})")
        if done % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
            yield (done + 1) / len(indices)
    left_out = Unreadable(data.name, split, len(indices))
    left_out.note(unreadable)
    left_out.tell()
    return Images(pixels=pixels[: len(readable)], targets=torch.from_numpy(split.targets[readable]))

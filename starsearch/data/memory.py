"""Splits that are decoded once, at the resolution they are used at, and kept over the trials of a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from starsearch.data.dataset import INTERPOLATION, DataSet, Split
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.unreadable import Unreadable, read_or_note

_PROGRESS_EVERY = 500  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Decoded images: pixels (n, resolution, resolution, 3) uint8, as `channels_last` has them, and targets (n,)."""

    pixels: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def load(
        self,
        indices: NDArray[np.int64],
        *,
        epoch: int,  # noqa: ARG002 — as of `LoadedImages`
        batch_size: int,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the pixels and targets of these images, `batch_size` at a time; they are alike in every epoch."""
        for chosen in torch.split(torch.from_numpy(indices), batch_size) if len(indices) else ():
            yield self.pixels[chosen], self.targets[chosen]


_Key = tuple[str, str, int, str]
_kept: OrderedDict[_Key, Images] = OrderedDict()


def fits_memory(num_images: int, resolution: int, limit_bytes: int) -> bool:
    """Whether so many decoded images stay within the limit."""
    return 3 * num_images * resolution**2 <= limit_bytes


def decode(
    data: DataSet, split: Split, indices: NDArray[np.int64], *, resolution: int
) -> Generator[float, None, Images]:
    """Decode images, or find them decoded; yield the fraction done now and then.

    An image is resized so that its shorter side is `resolution`, and cropped to the square in its middle.
    Unreadable images are left out with a warning.
    """
    key = (data.fingerprint, split.name, resolution, str(hash(indices.tobytes())))
    if key not in _kept:
        images = yield from _decode(data, split, indices, resolution)
        # Forget the images that were not used for longest until the rest stays within the limit.
        while _kept and sum(kept.pixels.numel() for kept in (images, *_kept.values())) > data.cache_limit_bytes:
            _kept.popitem(last=False)
        _kept[key] = images
    _kept.move_to_end(key)
    return _kept[key]


def _decode(data: DataSet, split: Split, indices: NDArray[np.int64], resolution: int) -> Generator[float, None, Images]:
    transform = Preprocessing(resolution=resolution, interpolation=INTERPOLATION, crop_pct=1.0).transform()
    pixels = torch.empty(len(indices), resolution, resolution, 3, dtype=torch.uint8)
    readable: list[int] = []
    noted: list[str] = []
    for done, index in enumerate(indices.tolist()):
        image = read_or_note(split, index)
        if isinstance(image, str):
            noted.append(image)
        else:
            pixels[len(readable)] = transform(image).permute(1, 2, 0)
            readable.append(index)
        if done % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
            yield (done + 1) / len(indices)
    unreadable = Unreadable(data.name, split, len(indices))
    unreadable.note(noted)
    unreadable.end_pass()
    return Images(pixels=pixels[: len(readable)], targets=torch.from_numpy(split.targets[readable]))

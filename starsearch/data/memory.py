"""Splits that are decoded once, at the resolution they are used at, and kept over the trials of a process."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from starsearch.data.dataset import INTERPOLATION, DataSet, Split
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.unreadable import Unreadable, read_or_note
from starsearch.errors import DataError
from starsearch.resolution import Resolution, area, sides

_PROGRESS_EVERY = 500  # images
_MOST_OF_GPU = 0.5  # of its free memory, for the images of a split; the rest is the training's


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Decoded images: pixels (n, height, width, 3) uint8, as `channels_last` has them, and targets (n,).

    Those of a pack have its resolution, from which each batch is resized. Where they are mapped they take no memory,
    and are all of the split.
    """

    pixels: torch.Tensor
    targets: torch.Tensor
    is_mapped: bool = False

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
        places = torch.from_numpy(indices).to(self.pixels.device)
        for chosen in torch.split(places, batch_size) if len(indices) else ():
            yield self.pixels[chosen], self.targets[chosen]

    @property
    def host_bytes(self) -> int:
        """How much of the host's memory the pixels take."""
        return 0 if self.is_mapped or self.pixels.is_cuda else self.pixels.nbytes

    def on_gpu(self, device: str, name: str) -> Images:
        """Return the images in the GPU's memory if they fit; else as they are, with a warning that `name`s them."""
        wanted, cached = self.pixels.nbytes, torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
        try:
            if wanted <= _MOST_OF_GPU * free:
                return replace(self, pixels=self.pixels.to(device), targets=self.targets.to(device))
        except torch.OutOfMemoryError:
            free = 0  # another process has taken it since
        most = _MOST_OF_GPU * free
        warnings.warn(
            f"The {name} take {wanted / 1e9:,.2f} GB, {(wanted - most) / 1e9:,.2f} GB more than half of what is free "
            f"on the GPU ({device}): they stay in the host's memory, and each batch is copied while the one before is "
            "trained on. A lower resolution or fewer samples fit.",
            stacklevel=2,
        )
        return self


_Key = tuple[str, str, object, Resolution, str, str]
_kept: OrderedDict[_Key, Images] = OrderedDict()


def fits_memory(num_images: int, resolution: Resolution, limit_bytes: int) -> bool:
    """Whether so many decoded images stay within the limit."""
    return 3 * num_images * area(resolution) <= limit_bytes


def check_packed(data: DataSet, split: Split, resolution: Resolution) -> None:
    """Refuse what a pack has not: images that are no squares, or larger than its own."""
    if split.pixels is None:
        return
    side = split.pixels().shape[1]
    if isinstance(resolution, str) or side < resolution:
        more = ": a pack has squares alone" if isinstance(resolution, str) else f", a larger pack, or at most {side} px"
        raise DataError(
            f"{data.name!r} is packed as squares of {side} px; {resolution} px are asked for. Take its source{more}."
        )


def decode(
    data: DataSet, split: Split, indices: NDArray[np.int64], *, resolution: Resolution, device: str = "cpu"
) -> Generator[float, None, Images]:
    """Decode images, or find them decoded, on the device if they fit there; yield the fraction done now and then.

    An image is resized until it just covers `resolution`, and cropped to that in its middle.
    Unreadable images are left out with a warning.
    """
    key = (data.fingerprint, split.name, split.pixels, resolution, str(hash(indices.tobytes())), device)
    if key not in _kept:
        if device == "cpu":
            images = yield from _decode(data, split, indices, resolution)
        else:
            for other in [one for one in _kept if (one[1], one[-1]) == (split.name, device)]:
                del _kept[other]  # a GPU has no room for several
            images = yield from decode(data, split, indices, resolution=resolution)
            images = images.on_gpu(device, f"{split.name} images of {data.name!r}")
        # Forget the images that were not used for longest until the rest stays within the limit.
        taken = {one: kept.host_bytes for one, kept in _kept.items() if kept.host_bytes}
        while taken and images.host_bytes + sum(taken.values()) > data.cache_limit_bytes:
            taken.pop(oldest := next(iter(taken)))
            del _kept[oldest]
        _kept[key] = images
    _kept.move_to_end(key)
    return _kept[key]


def _decode(
    data: DataSet, split: Split, indices: NDArray[np.int64], resolution: Resolution
) -> Generator[float, None, Images]:
    if split.pixels is not None:
        check_packed(data, split, resolution)
        packed, targets = split.pixels(), split.targets
        is_part = len(indices) < len(targets) and fits_memory(len(indices), len(packed[0]), data.cache_limit_bytes // 2)
        if is_part:
            packed, targets = packed[indices], targets[indices]
        return Images(pixels=torch.from_numpy(packed), targets=torch.from_numpy(targets), is_mapped=not is_part)
    transform = Preprocessing(resolution=resolution, interpolation=INTERPOLATION, crop_pct=1.0).transform()
    pixels = torch.empty(len(indices), *sides(resolution), 3, dtype=torch.uint8)
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

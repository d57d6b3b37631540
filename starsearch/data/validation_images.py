"""Validation images as timm prepares them: resized, cropped to the middle, normalised; the unreadable left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from starsearch.data.dataset import Split
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.reading import UNREADABLE, reason_of

Batch = tuple[torch.Tensor, torch.Tensor]
Sample = tuple[torch.Tensor, int] | str


@dataclass(eq=False, kw_only=True)
class ValidationImages:
    """One pass over a split at each iteration, in its order and in batches: images and their classes.

    Images are (batch, 3, resolution, resolution) float32, normalised; classes (batch,) int64. The batches of a split
    with unreadable images are smaller by those.

    Attributes:
        split: the images.
        preparation: what is done to them.
        batch_size: images of a batch.
        workers: processes that decode; 0 decodes here.
        device: to which the images go, before they become float32: bytes travel faster.
        unreadable: of the last pass: names, and what was wrong.
    """

    split: Split
    preparation: Preprocessing
    batch_size: int
    workers: int = 0
    device: str = "cpu"
    unreadable: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self.unreadable.clear()
        mean, std = (
            255 * torch.tensor(values, device=self.device).view(1, -1, 1, 1)
            for values in (self.preparation.mean, self.preparation.std)
        )
        loader: DataLoader[Any] = DataLoader(
            _Prepared(self.split, self.preparation.transform()),
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=_collate,
        )
        for pixels, targets, unreadable in loader:
            self.unreadable += unreadable
            if len(targets):
                on_device = pixels.to(self.device, non_blocking=True)
                yield on_device.float().sub_(mean).div_(std), targets.to(self.device)


class _Prepared(Dataset[Sample]):
    """Of an index: the image as (3, resolution, resolution) uint8 and its class, or what was wrong with it."""

    def __init__(self, split: Split, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        try:
            return torch.as_tensor(self.transform(self.split.read(index))), int(self.split.targets[index])
        except UNREADABLE as error:
            return f"{self.split.image_name(index)} ({reason_of(error)})"


def _collate(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    readable = [sample for sample in samples if not isinstance(sample, str)]
    unreadable = [sample for sample in samples if isinstance(sample, str)]
    pixels = torch.stack([image for image, _ in readable]) if readable else torch.empty(0, dtype=torch.uint8)
    return pixels, torch.tensor([target for _, target in readable], dtype=torch.int64), unreadable

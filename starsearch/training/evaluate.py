"""Top-1 and top-5 on validation images, of a network in training or of anything that gives logits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch

from starsearch.data.batches import Batches
from starsearch.families.network import Network
from starsearch.training.hardware import Hardware
from starsearch.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Percentages of `num_images` validation images; `top5_percent` is top-n where there are only n < 5 classes."""

    top1_percent: float
    top5_percent: float
    num_images: int


def count_hits(
    predict: Callable[[torch.Tensor], torch.Tensor], batches: Batches, *, device: str = "cpu"
) -> Generator[float, None, torch.Tensor]:
    """Return (3,) int64: images whose class is the likeliest, is among the five likeliest, and all images.

    Yields the fraction of batches done. Of equal logits, which integers often are, the first counts.

    `predict` returns the logits (batch, classes) of images on the device.
    """
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    for done, (images, targets) in enumerate(batches, start=1):
        with torch.inference_mode():
            ranked = predict(images).sort(dim=1, descending=True, stable=True).indices[:, :5]
            hits = ranked == targets.unsqueeze(1)
            counts = counts + torch.stack([hits[:, 0].sum(), hits.sum(), torch.full_like(counts[2], len(targets))])
        yield done / len(batches)
    return counts.clone()


def validate(
    model: Network, batches: Batches, *, hardware: Hardware | None = None, ranks: Ranks | None = None
) -> Generator[float, None, Accuracy]:
    """Judge `model` in eval mode, leaving it there; yield the fraction of batches done.

    Ranks validate together, each its own images; their hits are added up.
    """
    hardware = hardware or Hardware()
    model.eval()
    forward = model.quick_forward()

    def predict(images: torch.Tensor) -> torch.Tensor:
        with hardware.autocast():
            return forward(images)

    counts = yield from count_hits(predict, batches, device=hardware.device)
    top1, top5, count = (ranks or Ranks(hardware)).sum(counts).tolist()
    return Accuracy(top1_percent=100 * top1 / count, top5_percent=100 * top5 / count, num_images=count)

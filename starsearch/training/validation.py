"""Top-1 and top-5 of a network on validation images."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch

from starsearch.data.batches import Batches
from starsearch.models import StarNet
from starsearch.models.fast import FastForward


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Of `num_images` validation images, in percent. `top5_percent` is top-n where there are only n < 5 classes."""

    top1_percent: float
    top5_percent: float
    num_images: int


def validate(model: StarNet, batches: Batches, *, device: str) -> Generator[float, None, Accuracy]:
    """Judge `model` in eval mode, leaving it there; yields the share of batches done after each."""
    model.eval()
    forward = FastForward(model)
    top1 = top5 = torch.zeros((), dtype=torch.int64, device=device)
    for done, (images, targets) in enumerate(batches, start=1):
        with torch.inference_mode():
            logits = forward(images.to(device, non_blocking=True))
            hits = logits.topk(min(5, logits.shape[1])).indices == targets.to(device).unsqueeze(1)
            top1, top5 = top1 + hits[:, 0].sum(), top5 + hits.any(1).sum()
        yield done / len(batches)
    count = batches.num_images
    return Accuracy(top1_percent=100 * top1.item() / count, top5_percent=100 * top5.item() / count, num_images=count)

"""Top-1 and top-5 of a network on validation images."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch

from starsearch.data.batches import Batches
from starsearch.families.network import Network
from starsearch.training.hardware import Hardware
from starsearch.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Of `num_images` validation images, in percent. `top5_percent` is top-n where there are only n < 5 classes."""

    top1_percent: float
    top5_percent: float
    num_images: int


def validate(
    model: Network, batches: Batches, *, device: str, hardware: Hardware | None = None, ranks: Ranks | None = None
) -> Generator[float, None, Accuracy]:
    """Judge `model` in eval mode, leaving it there; yields the share of batches done after each.

    Args:
        model: on the device.
        batches: of this process.
        device: of torch.
        hardware: says the precision; None is the device's float32.
        ranks: that validate together, each its own images; their hits are added up.
    """
    hardware = hardware or Hardware(device=device)
    ranks = ranks or Ranks(hardware)
    model.eval()
    forward = model.quick_forward()
    counts = torch.zeros(3, dtype=torch.int64, device=device)  # top-1, top-5 and all
    for done, (images, targets) in enumerate(batches, start=1):
        with torch.inference_mode(), hardware.autocast():
            logits = forward(images.to(device, non_blocking=True))
            hits = logits.topk(min(5, logits.shape[1])).indices == targets.to(device).unsqueeze(1)
            counts = counts + torch.stack([hits[:, 0].sum(), hits.any(1).sum(), counts.new_tensor(len(targets))])
        yield done / len(batches)
    top1, top5, count = ranks.sum(counts.clone()).tolist()
    return Accuracy(top1_percent=100 * top1 / count, top5_percent=100 * top5 / count, num_images=count)

"""`Classifier`: a trained network that answers images, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starsearch.data.source import Orientation

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """A network that answers images.

    Attributes:
        text: what to call it.
        logits: (batch, channels, height, width) float32 on its device to (batch, outputs).
        num_outputs: of the head.
        class_names: of the outputs, where the file says them; else ().
        config: how timm would prepare an image for it, as a model's `pretrained_cfg`; what it does not say is the
            default's or the data's.
        orientation: of the pictures it was trained on, "exif" or "stored"; None where that is not known.
        fixed_resolution: the only one that it takes, in pixels; None for any.
        runs_on_cpu: whether images shall stay on the processor, whatever the device.
    """

    text: str
    logits: Callable[[torch.Tensor], torch.Tensor]
    num_outputs: int
    class_names: tuple[str, ...] = ()
    config: Mapping[str, Any]
    orientation: Orientation | None = None
    fixed_resolution: int | None = None
    runs_on_cpu: bool = False

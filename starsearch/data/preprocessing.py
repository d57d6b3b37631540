"""`Preprocessing`: how pictures become a network's input; one record for data, training, exports and validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starsearch.data.dataset import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATION, DataSet
from starsearch.data.source import Orientation
from starsearch.recipe import Fidelity
from starsearch.resolution import Resolution, sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What is done to an image before the network sees it, in timm's terms; the defaults are ImageNet's.

    Attributes:
        mean, std: per channel, of values in 0..1.
        resolution: of the image that the network sees.
        interpolation: timm's name of the resizing filter.
        crop_pct: share of the resized image's side that the centre crop keeps.
        crop_mode: timm's name of how an image of another shape is cropped: "center", "squash" or "border".
        orientation: "exif" where photos are turned upright as their EXIF tag says, "stored" where they are not.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resolution: Resolution = 224
    interpolation: str = INTERPOLATION
    crop_pct: float = 0.875
    crop_mode: str = "center"
    orientation: Orientation = "stored"

    @classmethod
    def of(cls, data: DataSet, fidelity: Fidelity) -> Preprocessing:
        """Return how a training on `data` at `fidelity` prepares its validation images."""
        return cls(
            mean=data.mean,
            std=data.std,
            resolution=fidelity.resolution,
            crop_pct=fidelity.crop_pct,
            orientation=data.orientation,
        )

    def transform(self) -> Any:
        """Return timm's validation transform, from a PIL image to (3, height, width) uint8."""
        from timm.data import create_transform

        return create_transform(
            (3, *sides(self.resolution)),
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            use_prefetcher=True,  # bytes, to be normalised where the network is
        )

    def timm_config(self, *, channels: int = 3) -> dict[str, Any]:
        """Return the entries of a timm model's `pretrained_cfg`, which knows no orientation."""
        return {
            "input_size": [channels, *sides(self.resolution)],
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "mean": list(self.mean),
            "std": list(self.std),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """How a network was validated in its training, as files of its weights say it; `classes` name its outputs."""

    preprocessing: Preprocessing
    classes: Sequence[str]

    @classmethod
    def on(cls, data: DataSet, fidelity: Fidelity) -> Validated:
        """Return how a training on `data` at `fidelity` validates."""
        return cls(preprocessing=Preprocessing.of(data, fidelity), classes=data.classes)

    def metadata(self) -> dict[str, str]:
        """Return the texts by name that safetensors, ONNX and Core ML files hold."""
        return {
            "preprocessing": json.dumps(asdict(self.preprocessing)),
            "class_names": json.dumps(list(self.classes)),
        }

    @classmethod
    def of_metadata(cls, about: Mapping[str, str]) -> Validated | None:
        """Return what `metadata` wrote; None for a file that does not say it, such as older ones.

        Raises:
            ValueError, KeyError, TypeError: something else stands under the same names.
        """
        if not {"preprocessing", "class_names"} <= about.keys():
            return None
        prepared = json.loads(about["preprocessing"])
        channels = {name: tuple(prepared[name]) for name in ("mean", "std")}
        return cls(
            preprocessing=Preprocessing(**{**prepared, **channels}), classes=tuple(json.loads(about["class_names"]))
        )

"""LiteRT (.tflite), in float32, for Android and small boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starsearch.export.format import TrainedNetwork
from starsearch.export.runtime import runtime_format


def convert(_: TrainedNetwork, model: Any, image: Any, path: Path) -> None:
    """Write what Google's converter makes of the module."""
    import litert_torch

    litert_torch.convert(model, (image,)).export(str(path))


FORMAT = runtime_format(
    name="litert",
    about="LiteRT's .tflite, in float32",
    file="model.tflite",
    needs=("litert_torch", "litert-torch"),
    convert=convert,
)

"""scikit-learn's digits, the embedded data set: 1,797 images of 8×8 pixels, which need no download."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from starsearch.data.dataset import SPLITS, Source, Split, SplitName
from starsearch.data.source import DataSource

FORM = "'digits', 1,797 images of 8×8 pixels that come with scikit-learn"
_VALIDATION_SHARE = 0.3  # 540 images: a trial's top-1 is then known to ±2 percentage points


def find(asked: DataSource) -> Source | None:
    """Return scikit-learn's digits (UCI, 1998), split by a fixed seed, evenly in every class."""
    if asked.path != "digits" or asked.folder is not None:
        return None
    splits = {name: partial(_split, name) for name in SPLITS}
    return Source(name="digits", splits=splits, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), orientation="stored")


def _split(name: SplitName) -> Split:
    pixels, targets, train, validation = _digits()
    chosen = train if name == "train" else validation
    return Split(
        name=name,
        classes=tuple("0123456789"),
        targets=targets[chosen],
        names=[f"digit {index}" for index in chosen],
        content=partial(_picture, pixels[chosen]),
        in_memory=True,
    )


def _picture(pixels: NDArray[np.uint8], index: int) -> Image.Image:
    return Image.fromarray(pixels[index])


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels, targets = np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64)
    everything = np.arange(len(pixels))
    return pixels, targets, *train_test_split(everything, test_size=_VALIDATION_SHARE, stratify=targets, random_state=0)

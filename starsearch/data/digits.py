"""scikit-learn's digits, the embedded data set: 1,797 images of 8×8 pixels, which need no download."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import CACHE_LIMIT_BYTES, DataSet, Split
from starsearch.data.reading import to_rgb

_VALIDATION_SHARE = 0.3  # 540 images: a trial's top-1 is then known to ±2 percentage points


def open_digits(*, cache_limit_bytes: int = CACHE_LIMIT_BYTES) -> DataSet:
    """scikit-learn's digits (UCI, 1998), split by a fixed seed, evenly in every class; grey is three equal channels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, validation = train_test_split(
        np.arange(len(pixels)), test_size=_VALIDATION_SHARE, stratify=digits.target, random_state=0
    )
    fingerprint = hashlib.sha256(pixels.tobytes() + train.astype("<i8").tobytes()).hexdigest()[:12]
    return DataSet(
        name="digits",
        classes=tuple(str(name) for name in digits.target_names),
        train=_split("train", pixels, digits.target, train),
        validation=_split("validation", pixels, digits.target, validation),
        fingerprint=fingerprint,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        cache_limit_bytes=cache_limit_bytes,
    )


def _split(name: str, pixels: NDArray[np.uint8], targets: NDArray[np.int64], chosen: NDArray[np.int64]) -> Split:
    from PIL import Image

    return Split(
        name="train" if name == "train" else "validation",
        targets=targets[chosen].astype(np.int64),
        read=lambda index: to_rgb(Image.fromarray(pixels[chosen[index]]), orientation="stored"),
        image_name=lambda index: f"digit {chosen[index]}",
        in_memory=True,
    )

"""ImageNet's 1,000 classes in timm's order, and which of them a data set's classes are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

NUM_IMAGENET_CLASSES = 1000
# The hub's ImageNet spells some names its own way; a list in another order would agree almost nowhere.
_LEAST_ALIKE = 950


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """Return the synsets ("n01440764") of ImageNet-1k in the order of timm's outputs, which sorts them as text."""
    return tuple(_imagenet().label_names())


@cache
def imagenet_descriptions() -> tuple[str, ...]:
    """Return the words for each class ("tench, Tinca tinca"), in the same order."""
    return tuple(_imagenet().label_descriptions())


def imagenet_indices(classes: Sequence[str]) -> tuple[int, ...] | None:
    """Return each class's place among ImageNet's 1,000; None where the classes are not all of ImageNet.

    Classes are known by their synsets; all 1,000 together also by words, as the Hugging Face hub names them: words
    alone do not tell the two cranes apart, so those count by their place in the list.
    """
    places = {synset: place for place, synset in enumerate(imagenet_synsets())}
    if all(name in places for name in classes):
        return tuple(places[name] for name in classes)
    if len(classes) != NUM_IMAGENET_CLASSES:
        return None
    pairs = zip(classes, imagenet_descriptions(), strict=True)
    alike = sum(_first_word(name) == _first_word(description) for name, description in pairs)
    return tuple(range(NUM_IMAGENET_CLASSES)) if alike >= _LEAST_ALIKE else None


def _first_word(description: str) -> str:
    return description.partition(",")[0].strip().lower()


def _imagenet() -> Any:
    from timm.data import ImageNetInfo

    info: Any = ImageNetInfo  # timm has no types
    return info()

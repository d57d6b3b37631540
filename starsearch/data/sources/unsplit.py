"""Class folders without splits: split by `validation_fraction`, or taken as validation images alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import SPLITS, Source, Split, SplitName
from starsearch.data.names import visible
from starsearch.data.source import DataSource
from starsearch.data.sources.folder import list_folder, split_folders
from starsearch.errors import DataError

FORM = "a folder of class folders, with --validation-fraction 0.2 (the share of each class that is held out)"


def find(asked: DataSource) -> Source | None:
    """Return the data set of the class folders, after all other kinds: it would take their folders for classes."""
    folder, fraction = asked.folder, asked.validation_fraction
    if folder is None or not is_of_class_folders(folder):
        return None
    listed = cache(partial(list_folder, "validation", folder.name, folder, asked.classes))
    splits: dict[SplitName, Callable[[], Split]] = {"validation": listed}
    if fraction is not None:
        for split in SPLITS:
            splits[split] = partial(_part, split, folder.name, listed, fraction)
    return Source(name=folder.name, splits=splits, options=frozenset({"classes", "validation_fraction"}))


def is_of_class_folders(folder: Path) -> bool:
    """Whether a folder has class folders and no splits."""
    inside = {entry.name for entry in visible(folder) if entry.is_dir()}
    return bool(inside) and "data" not in inside and not split_folders(folder)


def _part(split: SplitName, name: str, listed: Callable[[], Split], fraction: float) -> Split:
    whole = listed()
    held_out = _held_out(name, whole, fraction)
    return whole.part(split, np.flatnonzero(held_out == (split == "validation")))


def _held_out(name: str, whole: Split, fraction: float) -> NDArray[np.bool_]:
    """Return (n,), whether an image is held out for validation: that share of each class, drawn alike every time."""
    rng = np.random.default_rng(0x5EED)
    held_out = np.zeros(len(whole), dtype=np.bool_)
    for target, class_name in enumerate(whole.classes):
        members = np.flatnonzero(whole.targets == target)
        if len(members) < 2:
            raise DataError(f"The class {class_name!r} of {name!r} has one image: none can be held out for validation.")
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    return held_out

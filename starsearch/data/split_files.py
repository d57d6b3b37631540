"""Which of a folder's files hold the training images and which the validation images, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from starsearch.data.listing import SplitName

# As data sets on the Hugging Face hub are called; most wanted first. Some have no validation images but test images.
_WORDS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "test"),
}


def find_split_files(path: Path, suffix: str) -> dict[SplitName, tuple[Path, ...]]:
    """The files of either split that `path` or its folder data/ holds, by name; a split that is not there is left out.

    They are called after the split (imagenet1k-train-0000.tar, train-00000-of-00294.parquet), or lie in a folder of
    its name.

    Args:
        path: a folder.
        suffix: of the files, as ".tar".
    """
    found: dict[SplitName, tuple[Path, ...]] = {}
    for split, words in _WORDS.items():
        for folder in (path, path / "data"):
            for word in words:
                if split not in found and (files := _called(folder, word, suffix)):
                    found[split] = files
    return found


def _called(folder: Path, word: str, suffix: str) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    named = re.compile(rf"(?:^|[-_.]){word}(?:[-_.\d]|$)")
    if files := _visible(entry for entry in folder.glob(f"*{suffix}") if named.search(entry.name)):
        return files
    inside = folder / word
    if not inside.is_dir() or any(entry.is_dir() for entry in inside.iterdir()):
        return ()  # class folders
    return _visible(inside.glob(f"*{suffix}"))


def _visible(files: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(file for file in files if file.is_file() and not file.name.startswith(".")))

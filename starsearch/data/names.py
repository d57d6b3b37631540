"""What the names of files and folders say, by one rule for every source: hidden files, images, splits, classes."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import SPLITS, DataSet, SplitName, quoted
from starsearch.data.source import ClassFolder
from starsearch.errors import DataError

T = TypeVar("T")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_IN_FILE_NAME = re.compile(rf"(?:^|[-_.])({'|'.join(_SPLITS)})(?=[-_.\d]|$)", re.IGNORECASE)
_SYNSET = re.compile(r"(?:^|_)(n\d{8})(?=_|$)")
# Formats that Pillow opens but cannot draw by itself, films, and texts.
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
_MOST_SUFFIXES = 6  # that are named


def is_hidden(name: str) -> bool:
    """Whether a part of a path below the data set's root starts with a dot or is what macOS packs beside the files."""
    return any(part == "__MACOSX" or (part.startswith(".") and part != ".") for part in name.split("/"))


def visible(folder: Path) -> list[Path]:
    """Return the entries of a folder that are not hidden, by name."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the pictures that Pillow can open."""
    from PIL import Image

    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in _NO_PICTURES)


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image, hidden or not."""
    return _suffix(name) in image_suffixes()


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def images_and_others(files: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Return the images among files, sorted as timm sorts them, and how many others there are of each suffix."""
    images, others = [], Counter[str]()
    for file in files:
        if is_image(file):
            images.append(file)
        else:
            others[_suffix(file)] += 1
    return in_order(images), others


def in_order(names: Iterable[str]) -> list[str]:
    """Return names sorted as timm sorts those of files and classes: 2 before 10, whatever the case."""
    from timm.utils.misc import natural_key

    natural: Any = natural_key  # timm has no types
    return sorted(names, key=lambda name: (natural(name), name))


def suffixes_in_words(counts: Mapping[str, int]) -> str:
    """Return "12 .txt, 3 .json", the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in ordered[:_MOST_SUFFIXES]]
    rest = sum(count for _, count in ordered[_MOST_SUFFIXES:])
    return ", ".join([*named, f"{rest:,} of other suffixes"] if rest else named)


def no_images(where: str, others: Mapping[str, int]) -> DataError:
    """Return the error for class folders that hold other files only."""
    instead = f" There are {suffixes_in_words(others)} files." if others else ""
    return DataError(f"There are no images in the class folders of {where}.{instead}")


def warn_of_left_out(data: DataSet) -> None:
    """Warn in one line of the files of a data set that are not read."""
    if data.left_out:
        words = f"{data.name}: left out: {suffixes_in_words(data.left_out)}, which no training uses."
        warnings.warn(words, stacklevel=2)


def check_links(entries: Iterable[Path]) -> None:
    """Refuse links whose files or folders are not there."""
    if missing := {entry.name for entry in entries if not entry.exists()}:
        raise DataError(f"Links that lead nowhere: {quoted(missing)}. Fetch what they stand for, or remove them.")


def split_of_folder(name: str) -> str | None:
    """Return "train", "validation" or "test" if a folder or a file's stem has one of their usual names."""
    return _SPLITS.get(name.lower())


def assign_splits(name: str, found: Iterable[tuple[str, str, T]]) -> dict[SplitName, T]:
    """Return the entry of each split; test images validate if there are no validation images.

    `found` yields the split, what the entry is called, and the entry of the data set `name`.
    """
    by_split: dict[str, dict[str, T]] = {}
    for split, called, entry in found:
        by_split.setdefault(split, {})[called] = entry
    by_split.setdefault("validation", by_split.get("test", {}))
    chosen: dict[SplitName, T] = {}
    for split_name in SPLITS:
        entries = by_split.get(split_name, {})
        if len(entries) > 1:
            raise DataError(
                f"{quoted(set(entries))} of {name!r} all mean the {split_name} split; keep one, or merge their images."
            )
        if entries:
            (chosen[split_name],) = entries.values()
    return chosen


def find_split_files(path: Path, suffix: str) -> dict[SplitName, tuple[Path, ...]]:
    """Return the files of each split in a folder or its data/; a split that is not there is left out.

    They are named after the split (imagenet1k-train-0000.tar, train-00000-of-00294.parquet), or lie in a folder of
    its name.
    """
    found: dict[SplitName, tuple[Path, ...]] = {}
    for place in (path, path / "data"):
        if place.is_dir():
            found = {**assign_splits(path.name, _split_files(place, suffix)), **found}
    return found


def _split_files(place: Path, suffix: str) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    named: dict[str, list[Path]] = {}
    for file in visible(place):
        if file.suffix == suffix and not file.is_dir() and (words := _IN_FILE_NAME.findall(file.name)):
            named.setdefault(words[-1], []).append(file)
    for word, files in named.items():
        yield _SPLITS[word.lower()], files[0].name, tuple(files)
    for folder in visible(place):
        if folder.is_dir() and (split := split_of_folder(folder.name)):
            inside = visible(folder)
            files = [file for file in inside if file.suffix == suffix and not file.is_dir()]
            if files and not any(entry.is_dir() for entry in inside):  # else they are class folders
                yield split, f"{folder.name}/", tuple(files)


def classes_of_images(
    where: str, names: Sequence[str], choice: ClassFolder | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes in timm's order and the class of each image: the folder directly below the split.

    Of nested folders the outermost or the innermost may name the class, so the user chooses where the two differ.

    `where` is the split's folder or tar, for messages.
    """
    folders = [name.removeprefix("./").split("/")[:-1] for name in names]
    if outside := {name for name, path in zip(names, folders, strict=True) if not path}:
        raise DataError(
            f"Images lie outside of class folders in {where}: {quoted(outside)}; move them into their class's folder."
        )
    outermost, innermost = [path[0] for path in folders], [path[-1] for path in folders]
    if choice is None and outermost != innermost:
        raise DataError(
            f"Images in {where} lie in nested folders, of which either may name the class: the outermost "
            f"({_reading(outermost)}) or the innermost ({_reading(innermost)}). Choose with --classes outermost or "
            "--classes innermost; in a study file, data: FOLDER?classes=outermost."
        )
    labels = innermost if choice == "innermost" else outermost
    classes = tuple(in_order(set(labels)))
    numbers = {label: number for number, label in enumerate(classes)}
    return classes, np.array([numbers[label] for label in labels], dtype=np.int64)


def _reading(labels: Sequence[str]) -> str:
    counts = Counter(labels)
    ordered = in_order(counts)
    ends = dict.fromkeys((ordered[0], ordered[-1]))
    named = " … ".join(f"{label!r} with {counts[label]:,} images" for label in ends)
    return f"{len(counts):,} {'class' if len(counts) == 1 else 'classes'}, {named}"


def class_synsets(names: Iterable[str], targets: Iterable[int]) -> tuple[str, ...] | None:
    """Return the synset of each class as its images' names tell it ("n01440764_10026", "ILSVRC2012_val_293_n01440764").

    None if they do not, or disagree.
    """
    synsets: dict[int, str] = {}
    for name, target in zip(names, targets, strict=True):
        found = _SYNSET.search(name.rpartition("/")[2].partition(".")[0])
        if found is None or synsets.setdefault(target, found[1]) != found[1]:
            return None
    if set(synsets) != set(range(len(synsets))) or len(set(synsets.values())) < len(synsets):
        return None
    return tuple(synsets[number] for number in range(len(synsets)))

"""`Listing`: what a split on disk holds, before anything is decoded; two of them make a `DataSet`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import DataSet, Split
from starsearch.data.reading import DecodedImages
from starsearch.data.source import Orientation
from starsearch.data.stored import FileImages
from starsearch.data.synsets import imagenet_indices
from starsearch.errors import DataError

SplitName = Literal["train", "validation"]
T = TypeVar("T")
_MOST_SIZES = 10_000  # files whose size enters the fingerprint: asking for ImageNet's 1.3 million takes a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a split holds, not decoded.

    Attributes:
        classes: their names, in the order of the targets.
        targets: (n,), the class of each image.
        names: of the images, below the split.
        sizes: of the images in bytes, 0 where that was not asked for.
        content: reads the encoded bytes of an index's image; picklable, and safe in a forked process.
        numbered: whether `classes` are but the numbers that the files say.
        left_out: files that are not trained on, by suffix.
    """

    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    names: Sequence[str]
    sizes: Sequence[int]
    content: Callable[[int], bytes]
    numbered: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)

    def chosen(self, indices: NDArray[np.int64]) -> Self:
        """Return the listing of these images alone, of class folders."""
        assert isinstance(self.content, FileImages)
        paths = self.content.paths
        return replace(
            self,
            targets=self.targets[indices],
            names=[self.names[index] for index in indices],
            sizes=[self.sizes[index] for index in indices],
            content=FileImages([paths[index] for index in indices]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set that was found on disk.

    Attributes:
        name: by which the user knows it.
        splits: that are there.
        list_split: lists the images of one of them.
    """

    name: str
    splits: frozenset[SplitName]
    list_split: Callable[[SplitName], Listing]


def found_splits(path: Path, found: Mapping[SplitName, T], list_images: Callable[[T], Listing]) -> Source | None:
    """The data set in the folder `path` of the splits that were `found` there; None where none was."""
    if not found:
        return None
    return Source(name=path.name, splits=frozenset(found), list_split=lambda split: list_images(found[split]))


def open_source(source: Source, *, cache_limit_bytes: int, orientation: Orientation | None) -> DataSet:
    """The data set, both splits listed and compared; `orientation` is what was asked for.

    Raises:
        DataError: a split cannot be listed, or the two have other classes.
    """
    training, validating = source.list_split("train"), source.list_split("validation")
    both_named = _name_alike(training, validating)
    check_same_classes(source.name, *both_named)
    turned = choose_orientation(both_named[0], orientation)
    return DataSet(
        name=source.name,
        classes=both_named[0],
        train=split_of("train", training, turned),
        validation=renumbered(split_of("validation", validating, turned), source.name, *both_named),
        fingerprint=_fingerprint(training, validating, orientation=turned),
        cache_limit_bytes=cache_limit_bytes,
        orientation=turned,
    )


def _name_alike(training: Listing, validating: Listing) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of either; where one knows only their numbers, by the other's names."""
    if training.numbered != validating.numbered and len(training.classes) == len(validating.classes):
        named = validating.classes if training.numbered else training.classes
        return named, named
    return training.classes, validating.classes


def named_by_training(source: Source, validating: Listing) -> Listing:
    """The validation images; where they say but the numbers of their classes, with the training images' names for them.

    It stays as it is where the training images are not there, or tell no more: validation does without them.
    """
    if not validating.numbered or "train" not in source.splits:
        return validating
    with suppress(DataError):
        training = source.list_split("train")
        _, classes = _name_alike(training, validating)
        return replace(validating, classes=classes, numbered=classes == validating.classes)
    return validating


def choose_orientation(classes: Sequence[str], asked: Orientation | None) -> Orientation:
    """Return what was asked for, else "exif"; "stored" of ImageNet's classes, which timm's protocol does not turn."""
    return asked or ("exif" if imagenet_indices(classes) is None else "stored")


def split_of(name: SplitName, listing: Listing, orientation: Orientation) -> Split:
    """The listing as a `Split`."""
    return Split(
        name=name,
        targets=listing.targets,
        read=DecodedImages(listing.content, orientation),
        image_name=listing.names.__getitem__,
        left_out=listing.left_out,
    )


def sampled_sizes(num_images: int, size_of: Callable[[int], int]) -> list[int]:
    """Sizes in bytes for the fingerprint: of all images, or of about every n-th where there are many; else 0."""
    every = max(1, -(-num_images // _MOST_SIZES))
    return [0 if index % every else size_of(index) for index in range(num_images)]


def check_same_classes(name: str, train: Iterable[str], validation: Iterable[str]) -> None:
    """Refuse a data set whose splits have other classes, or fewer than two.

    Raises:
        DataError: naming the classes that one split lacks.
    """
    training, validating = set(train), set(validation)
    lacking = {"validation": training - validating, "training": validating - training}
    found = [f"{split} lacks {some(classes)}" for split, classes in lacking.items() if classes]
    if found:
        raise DataError(f"Training and validation of {name!r} have other classes: {'; '.join(found)}.")
    if len(training) < 2:
        raise DataError(f"A data set has two classes or more; {name!r} has only {some(training)}.")


def renumbered(split: Split, name: str, train: Sequence[str], validation: Sequence[str]) -> Split:
    """The validation images with the targets that the training images of the same class name have.

    Each split may number its classes in an order of its own: Parquet's metadata, or the synsets in the keys of shards.

    Args:
        split: the validation images, numbered as `validation` is.
        name: of the data set.
        train: classes of the training images, in the order of their targets.
        validation: those of the validation images; the same names, as `check_same_classes` has it.

    Raises:
        DataError: the order differs, and a name stands for two classes.
    """
    if tuple(train) == tuple(validation):
        return split
    twice = {class_name for names in (train, validation) for class_name in names if names.count(class_name) > 1}
    if twice:
        raise DataError(
            f"Training and validation of {name!r} number their classes differently, and more than one class is called "
            f"{some(twice)}: which is which cannot be told. Name every class differently, or both splits in one order."
        )
    numbers = {class_name: number for number, class_name in enumerate(train)}
    targets = np.array([numbers[class_name] for class_name in validation], dtype=np.int64)[split.targets]
    return replace(split, targets=targets)


def check_links(entries: Iterable[Path]) -> None:
    """Refuse links whose files or folders are not there.

    Raises:
        DataError: naming them.
    """
    if gone := [entry.name for entry in entries if not entry.exists()]:
        raise DataError(f"Links that lead nowhere: {some(gone)}. Fetch what they stand for, or remove them.")


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names in quotes, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most:,} more" if len(ordered) > most else ""
    return ", ".join(repr(name) for name in ordered[:most]) + more


def _fingerprint(*listings: Listing, orientation: Orientation) -> str:
    digest = hashlib.sha256(b"exif" if orientation == "exif" else b"")
    for listing in listings:
        images = (f"{name} {size}" for name, size in zip(listing.names, listing.sizes, strict=True))
        digest.update("\n".join([*listing.classes, "", *images, ""]).encode())
    return digest.hexdigest()[:12]

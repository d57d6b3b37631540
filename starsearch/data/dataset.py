"""`DataSet` and its `Split`s: what is trained and validated on; and `Source`, where one was found."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from starsearch.data.decoding import decode_image
from starsearch.data.source import Orientation
from starsearch.data.synsets import imagenet_indices
from starsearch.errors import DataError, some

SplitName = Literal["train", "validation"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INTERPOLATION = "bicubic"  # timm's name; by which images are resized unless a recipe or a network says otherwise
CACHE_LIMIT_BYTES = 2 * 1024**3
_MOST_SIZES = 10_000  # files whose size enters the fingerprint: asking for ImageNet's 1.3 million takes a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The training or the validation images, not decoded.

    Attributes:
        classes: names of the classes, in the order of the targets.
        targets: (n,), the class of each image, from 0.
        names: (n,), of the images, for messages.
        content: returns the encoded bytes of an index's image, or the picture as a library opened it; safe in a
            forked process.
        size_of: returns the size in bytes of an index's file; None where only reading would tell.
        orientation: "exif" where photos are turned as their EXIF tag says, "stored" where they are left.
        in_memory: whether all images are in memory, so that there is nothing to decode.
        pixels: returns all images decoded, (n, side, side, 3) uint8; None where they are not.
        numbered: whether the classes are called only by their numbers in the files.
        unreadable: names of images that could not be decoded so far; they are left out.
        left_out: how many files beside the images are none, by suffix ("" for none).
    """

    name: SplitName
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    names: Sequence[str]
    content: Callable[[int], bytes | Image.Image]
    size_of: Callable[[int], int] | None = None
    orientation: Orientation = "stored"
    in_memory: bool = False
    pixels: Callable[[], NDArray[np.uint8]] | None = None
    numbered: bool = False
    unreadable: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> Image.Image:
        """Return an image as 8-bit RGB.

        Raises:
            OSError, or another of `decoding.UNREADABLE`: it cannot be read.
        """
        return decode_image(self.content(index), self.orientation)

    def image_name(self, index: int) -> str:
        """Return what messages call an image."""
        return self.names[index]

    def part(self, name: SplitName, indices: NDArray[np.int64]) -> Split:
        """Return the split of these images alone; files that are none stay with the training images."""
        return replace(
            self,
            name=name,
            targets=self.targets[indices],
            names=[self.names[index] for index in indices],
            content=_Among(self.content, indices),
            size_of=None if self.size_of is None else _Among(self.size_of, indices),
            pixels=None,
            unreadable=[],
            left_out=self.left_out if name == "train" else {},
        )


@dataclass(frozen=True, slots=True)
class _Among:
    """Calls a function of an image's index by its place among the chosen ones."""

    function: Callable[[int], Any]
    indices: NDArray[np.int64]

    def __call__(self, place: int) -> Any:
        return self.function(int(self.indices[place]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set that was found: functions that list its splits, and which `options` of folders it takes.

    Attributes:
        name: what the user calls it, never an absolute path.
        orientation: the default; None turns photos by EXIF unless the classes are ImageNet's, whose protocol does not.
    """

    name: str
    splits: Mapping[SplitName, Callable[[], Split]]
    options: frozenset[str] = frozenset()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    orientation: Orientation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """An image classification data set, opened and checked; no image has been decoded yet.

    Attributes:
        name: "digits", a folder's name or timm's, with the options it is read with.
        train: the training images; empty where only validation was asked for.
        fingerprint: short hash of classes, image names, sizes, targets and orientation; the same wherever the data
            lies.
        mean, std: per channel, for normalising values in 0..1.
        cache_limit_bytes: up to which a split, decoded at the resolution it is used at, is kept in memory.
    """

    name: str
    train: Split
    validation: Split
    fingerprint: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    cache_limit_bytes: int = CACHE_LIMIT_BYTES

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the targets."""
        return self.validation.classes

    @property
    def orientation(self) -> Orientation:
        """Whether photos are turned as their EXIF tag says."""
        return self.validation.orientation

    @property
    def num_train(self) -> int:
        """How many training images there are."""
        return len(self.train)

    @property
    def num_validation(self) -> int:
        """How many validation images there are."""
        return len(self.validation)

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many files beside the images are none, by suffix."""
        return Counter(self.train.left_out) + Counter(self.validation.left_out)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that could not be decoded so far and are left out."""
        return (*self.train.unreadable, *self.validation.unreadable)


def join_splits(source: Source, train: Split, validation: Split) -> tuple[Split, Split]:
    """Return both splits with the same classes in the same order.

    Each split may number its classes in an order of its own, and one may know only their numbers.
    """
    name = source.name
    train, validation = name_alike(train, validation), name_alike(validation, train)
    training, validating = set(train.classes), set(validation.classes)
    lacking = {"validation": training - validating, "training": validating - training}
    if found := [f"{split} lacks {quoted(classes)}" for split, classes in lacking.items() if classes]:
        raise DataError(f"Training and validation of {name!r} have different classes: {'; '.join(found)}.")
    if len(training) < 2:
        raise DataError(f"A data set has two classes or more; {name!r} has only {quoted(training)}.")
    if train.classes == validation.classes:
        return train, validation
    numbers = {class_name: number for number, class_name in enumerate(train.classes)}
    matched = np.array([numbers[class_name] for class_name in validation.classes], dtype=np.int64)
    return train, replace(validation, classes=train.classes, targets=matched[validation.targets])


def name_alike(split: Split, other: Split) -> Split:
    """Return the split with the other's class names if it knows only their numbers."""
    if split.numbered and not other.numbered and len(split.classes) == len(other.classes):
        return replace(split, classes=other.classes, numbered=False)
    return split


def orient(split: Split, orientation: Orientation | None) -> Split:
    """Return the split with an orientation; None is "exif" except for ImageNet's classes."""
    default: Orientation = "exif" if imagenet_indices(split.classes) is None else "stored"
    return replace(split, orientation=orientation or default)


def fingerprint(train: Split, validation: Split) -> str:
    """Return a short hash of what the splits hold; of large splits, the sizes of about every n-th file count."""
    digest = hashlib.sha256(b"exif" if train.orientation == "exif" else b"")
    for split in (train, validation):
        every, size_of = max(1, -(-len(split) // _MOST_SIZES)), split.size_of
        sizes = [0 if size_of is None or index % every else size_of(index) for index in range(len(split))]
        images = (f"{name} {size}" for name, size in zip(split.names, sizes, strict=True))
        digest.update("\n".join([*split.classes, "", *images, ""]).encode())
        digest.update(split.targets.astype("<i8").tobytes())
    return digest.hexdigest()[:12]


def quoted(names: Sequence[str] | set[str]) -> str:
    """Return the first few names in quotes, and how many more there are."""
    return some(map(repr, sorted(names)), most=5)


def choose_balanced(targets: Sequence[int] | NDArray[np.int64], samples: int, *, seed: int) -> NDArray[np.int64]:
    """Return the indices of `samples` images in ascending order, equally many of every class.

    If `samples` is no multiple of the classes, some classes give one more; a class that has too few gives all it has
    and the others make up for it.
    """
    labels = np.asarray(targets)
    rng = np.random.default_rng([seed, 0x5AB5E7])
    order = rng.permutation(len(labels))
    place = np.empty(len(labels), dtype=np.int64)  # of an image among those of its class
    classes = np.unique(labels)
    for label in classes:
        members = order[labels[order] == label]
        place[members] = np.arange(len(members))
    tie = rng.permutation(int(classes.max()) + 1)[labels]  # which classes give one more
    return np.sort(np.lexsort((tie, place))[:samples])

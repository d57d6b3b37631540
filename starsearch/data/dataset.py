"""`DataSet`: what is trained and validated on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from starsearch.data.source import Orientation

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CACHE_LIMIT_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The training or the validation images.

    Attributes:
        name: "train" or "validation".
        targets: (n,), the class of each image, from 0.
        read: decodes the image of an index; raises `OSError` where that cannot be done.
        image_name: of an index, for messages.
        in_memory: whether all images are in memory, so that there is nothing to decode.
        unreadable: names of images that could not be decoded so far; they are left out.
        left_out: files beside the images that are none, by suffix; "" stands for none.
    """

    name: Literal["train", "validation"]
    targets: NDArray[np.int64]
    read: Callable[[int], Image.Image]
    image_name: Callable[[int], str]
    in_memory: bool = False
    unreadable: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """An image classification data set, opened and checked; no image has been decoded yet.

    Attributes:
        name: by which the user knows it: "digits", a folder's name, or timm's name; never a whole path.
        classes: their names, in the order of the targets.
        train: the training images.
        validation: the validation images.
        fingerprint: short hash of classes, image names, sizes, targets and a turned orientation; the same wherever the
            data set lies.
        mean: of the channels, by which images are normalised (of values in 0..1).
        std: of the channels, likewise.
        in_chans: channels of an image; grey images are read as three equal channels.
        interpolation: by which images are resized, a name of timm's.
        cache_limit_bytes: up to which a split, decoded at the resolution it is used at, is kept in memory.
        orientation: "exif" where images are turned as their EXIF says, "stored" where they are left.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    fingerprint: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    in_chans: int = 3
    interpolation: str = "bicubic"
    cache_limit_bytes: int = CACHE_LIMIT_BYTES
    orientation: Orientation = "stored"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSet:
    """Validation images alone, for a network that is trained already; as of a `DataSet`.

    Attributes:
        name: by which the user knows it.
        classes: their names, in the order of the targets.
        split: the images.
        mean, std: of the channels, by which images are normalised (of values in 0..1).
        numbered: whether `classes` are but the numbers that the files say.
        orientation: as of a `DataSet`.
    """

    name: str
    classes: tuple[str, ...]
    split: Split
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    numbered: bool = False
    orientation: Orientation = "stored"


def choose_balanced(targets: Sequence[int] | NDArray[np.int64], samples: int, *, seed: int) -> NDArray[np.int64]:
    """Indices of `samples` images in ascending order, equally many of every class.

    Where `samples` is not a multiple of the classes, some classes give one more; a class that has too few gives all it
    has and the others make up for it. All indices where `samples` is not less than the images.
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

"""Data sets by timm's names: torchvision's, Hugging Face's, TensorFlow's and webdatasets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import DataSet, Split
from starsearch.data.listing import check_same_classes, renumbered
from starsearch.data.reading import DecodedImages, to_rgb
from starsearch.data.source import Orientation
from starsearch.errors import DataError

TIMM_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
# The library behind a prefix that does not come with timm, and what installs it.
_LIBRARIES = {
    "hfds": ("datasets", "pip install datasets"),
    "hfids": ("datasets", "pip install datasets"),
    "tfds": ("tensorflow_datasets", "pip install tensorflow tensorflow-datasets"),
    "wds": ("webdataset", "pip install webdataset"),
}


def open_named(data: str, *, cache_limit_bytes: int, orientation: Orientation) -> DataSet:
    """The data set of a timm name, fetched by the library behind it where that does so.

    Args:
        data: as "torch/cifar10", "hfds/uoft-cs/cifar10" or "wds/NAME@FOLDER".
        cache_limit_bytes: of the data set.
        orientation: of its images.

    Raises:
        DataError: the library behind the name is not installed, or does not know the data set or cannot read it, in
            its own words.
    """
    name, _, root = data.partition("@")
    _check_library(name)
    datasets = [_create(name, root, split) for split in ("train", "validation")]
    train, validation = (
        _split(split, dataset, name, cache_limit_bytes, orientation)
        for split, dataset in zip(("train", "validation"), datasets, strict=True)
    )
    for split in (train, validation):
        if not len(split):
            raise DataError(f"The {split.name} split of {name!r} has no images.")
    classes = _class_names(datasets[0], train.targets)
    validation_classes = _class_names(datasets[1], validation.targets)
    check_same_classes(name, classes, validation_classes)
    validation = renumbered(validation, name, classes, validation_classes)
    turned = ("exif",) if orientation == "exif" else ()
    digest = hashlib.sha256("\n".join((name, *classes, *turned)).encode())
    for split in (train, validation):
        digest.update(split.targets.astype("<i8").tobytes())
    return DataSet(
        name=name,
        classes=classes,
        train=train,
        validation=validation,
        fingerprint=digest.hexdigest()[:12],
        cache_limit_bytes=cache_limit_bytes,
        orientation=orientation,
    )


def _check_library(name: str) -> None:
    """Refuse a name whose library is not installed; timm itself would print that and go on to a traceback."""
    from importlib.util import find_spec

    library, install = _LIBRARIES.get(name.partition("/")[0].lower(), ("", ""))
    if library and find_spec(library) is None:
        raise DataError(f"The data set {name!r} is read by the package {library!r}, which is not installed: {install}")


def _create(name: str, root: str, split: str) -> Any:
    import torch
    from timm.data import create_dataset

    # Where torch.hub keeps its files; the others know their own place.
    torch_root = f"{torch.hub.get_dir()}/../datasets" if name.lower().startswith("torch/") else None
    place = root or torch_root
    try:
        try:
            return create_dataset(name, root=place, split=split, download=True)
        except ValueError as error:
            # Many sets of the hub, CIFAR-10 among them, have test images and no validation images.
            if split != "validation" or "Unknown split" not in str(error):
                raise
            return create_dataset(name, root=place, split="test", download=True)
    except Exception as error:
        # Each library behind timm has its own errors, down to AssertionError; what they say is all there is to say.
        words = str(error).strip().splitlines()
        reason = words[0] if words else type(error).__name__
        raise DataError(f"timm cannot open the data set {name!r} ({split}): {reason}") from error


def _class_names(dataset: Any, targets: NDArray[np.int64]) -> tuple[str, ...]:
    """The names the library knows, else the numbers that occur."""
    named = getattr(dataset, "class_to_idx", None) or getattr(getattr(dataset, "reader", None), "class_to_idx", None)
    if named:
        return tuple(sorted(named, key=named.get))
    return tuple(str(number) for number in range(int(targets.max()) + 1))


def _split(split: str, dataset: Any, name: str, cache_limit_bytes: int, orientation: Orientation) -> Split:
    if hasattr(dataset, "__getitem__") and not _is_stream(dataset):
        targets, read, in_memory = _targets(dataset), _reader(dataset, orientation), False
    else:
        images, targets = _drain(dataset, name, cache_limit_bytes)
        read, in_memory = _converted(images.__getitem__, orientation), True
    return Split(
        name="train" if split == "train" else "validation",
        targets=targets,
        read=read,
        image_name=lambda index: f"{name} {split} {index}",
        in_memory=in_memory,
    )


def _is_stream(dataset: Any) -> bool:
    from torch.utils.data import IterableDataset

    return isinstance(dataset, IterableDataset)


def _targets(dataset: Any) -> NDArray[np.int64]:
    """The class of each image, without decoding images where the library can tell."""
    found: Iterable[Any]
    if hasattr(dataset, "reader"):
        found = dataset.reader.iter_targets()
    elif hasattr(dataset, "targets"):  # torchvision's convention
        found = dataset.targets
    else:
        found = (dataset[index][1] for index in range(len(dataset)))
    return np.fromiter((int(target) for target in found), dtype=np.int64)


def _reader(dataset: Any, orientation: Orientation) -> Callable[[int], Any]:
    """Decodes the image of an index."""
    if hasattr(dataset, "loader"):  # torchvision's converts to RGB, which clips 16 bits and drops transparency
        dataset.loader = DecodedImages(lambda path: Path(path).read_bytes(), orientation)
    if not hasattr(dataset, "reader"):
        return _converted(lambda index: dataset[index][0], orientation)
    reader = dataset.reader  # timm's own data set would hide a broken image behind the next

    def content(index: int) -> Any:
        with reader[index][0] as file:
            return file.read()

    return DecodedImages(content, orientation)


def _converted(picture: Callable[[int], Any], orientation: Orientation) -> Callable[[int], Any]:
    """The pictures that a library has opened, as 8-bit RGB."""
    return lambda index: to_rgb(picture(index), orientation=orientation)


def _drain(dataset: Any, name: str, cache_limit_bytes: int) -> tuple[list[Any], NDArray[np.int64]]:
    """All images of a stream, and their classes."""
    images, targets, size = [], [], 0
    for image, target in dataset:
        images.append(image)
        targets.append(int(target))
        size += 3 * image.width * image.height
        if size > cache_limit_bytes:
            raise DataError(
                f"{name!r} is a stream and larger than the {cache_limit_bytes / 1e9:.1f} GB that are kept in memory; "
                "unpack it into train/ and validation/ and name that folder."
            )
    return images, np.array(targets, dtype=np.int64)

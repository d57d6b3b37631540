"""Data sets by timm's names: torchvision's, Hugging Face's, TensorFlow's and webdatasets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from starsearch.data.dataset import CACHE_LIMIT_BYTES, SPLITS, Source, Split, SplitName
from starsearch.data.source import DataSource
from starsearch.data.sources.parquet import check_library
from starsearch.errors import DataError, first_line

_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
FORM = f"a timm data-set name ({', '.join(f'{prefix}/…' for prefix in _PREFIXES)}), with @FOLDER where its files lie"
# The packages behind a prefix that neither timm nor an extra of ours brings, and what installs them.
_LIBRARIES = {
    "tfds": ("tensorflow_datasets", "pip install tensorflow tensorflow-datasets"),
    "wds": ("webdataset", "pip install webdataset"),
}


def find(asked: DataSource) -> Source | None:
    """Return the data set of a timm name, fetched by the library behind it."""
    prefix, slash, _ = asked.path.partition("/")
    if asked.folder is not None or not slash or prefix.lower() not in _PREFIXES:
        return None
    name, _, root = asked.path.partition("@")
    splits = {split: partial(_list, name, root, split) for split in SPLITS}
    return Source(name=name, splits=splits, orientation="stored")


def _list(name: str, root: str, split: SplitName) -> Split:
    from torch.utils.data import IterableDataset

    _check_library(name)
    dataset = _create(name, root, split)
    content: Callable[[int], bytes | Image.Image]
    if in_memory := isinstance(dataset, IterableDataset):
        images, targets = _drain(dataset, name)
        content = images.__getitem__
    else:
        content, targets = _content_of(dataset), _targets(dataset)
    if not len(targets):
        raise DataError(f"The {split} split of {name!r} has no images.")
    return Split(
        name=split,
        classes=_class_names(dataset, targets),
        targets=targets,
        names=[f"{name} {split} {index}" for index in range(len(targets))],
        content=content,
        in_memory=in_memory,
    )


def _check_library(name: str) -> None:
    """Refuse a name whose library is not installed; timm itself would print that and go on to a traceback."""
    prefix = name.partition("/")[0].lower()
    if prefix in ("hfds", "hfids"):
        check_library(f"The data set {name!r}")
    library, install = _LIBRARIES.get(prefix, ("", ""))
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
        raise DataError(f"timm cannot open the data set {name!r} ({split}): {first_line(error)}") from error


def _class_names(dataset: Any, targets: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names the library knows, else the numbers that occur."""
    named = getattr(dataset, "class_to_idx", None) or getattr(getattr(dataset, "reader", None), "class_to_idx", None)
    if named:
        return tuple(sorted(named, key=named.get))
    return tuple(str(number) for number in range(int(targets.max()) + 1))


def _targets(dataset: Any) -> NDArray[np.int64]:
    """Return the class of each image, without decoding images if the library can tell."""
    found: Iterable[Any]
    if hasattr(dataset, "reader"):
        found = dataset.reader.iter_targets()
    elif hasattr(dataset, "targets"):  # torchvision's convention
        found = dataset.targets
    else:
        found = (dataset[index][1] for index in range(len(dataset)))
    return np.fromiter((int(target) for target in found), dtype=np.int64)


def _content_of(dataset: Any) -> Callable[[int], bytes | Image.Image]:
    """Return what reads an index's file or picture, before a library converts it to RGB.

    Torchvision's loader clips 16 bits and drops transparency, and timm's own data set hides a broken image behind the
    next.
    """
    if hasattr(dataset, "loader"):
        dataset.loader = _bytes_of
    return partial(_read if hasattr(dataset, "reader") else _first, dataset)


def _bytes_of(path: str) -> bytes:
    return Path(path).read_bytes()


def _first(dataset: Any, index: int) -> Any:
    return dataset[index][0]


def _read(dataset: Any, index: int) -> bytes:
    with dataset.reader[index][0] as file:
        return bytes(file.read())


def _drain(dataset: Any, name: str) -> tuple[list[Image.Image], NDArray[np.int64]]:
    """Return all images of a stream, and their classes."""
    images, targets, size = [], [], 0
    for image, target in dataset:
        images.append(image)
        targets.append(int(target))
        size += 3 * image.width * image.height
        if size > CACHE_LIMIT_BYTES:
            raise DataError(
                f"{name!r} is a stream and larger than the {CACHE_LIMIT_BYTES / 1e9:.1f} GB that are kept in memory; "
                "unpack it into train/ and validation/ and name that folder."
            )
    return images, np.array(targets, dtype=np.int64)

"""Parquet files as the Hugging Face hub has them, through its library `datasets`.

`datasets` first writes the images to its cache (HF_DATASETS_CACHE; another 150 GB for ImageNet), from which any one is
read at once: Parquet itself compresses pages of a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from starsearch.data.dataset import Source, Split, SplitName
from starsearch.data.decoding import reason_of_file
from starsearch.data.names import class_synsets, find_split_files
from starsearch.data.source import DataSource
from starsearch.errors import DataError, first_line

FORM = (
    "a folder of the Hugging Face hub's Parquet files (data/train-00000-of-00001.parquet …, data/validation-…), read "
    "by the package 'datasets'"
)
_IMAGES, _LABELS = ("image", "img", "jpg", "jpeg", "png"), ("label", "labels", "fine_label", "cls")


def find(asked: DataSource) -> Source | None:
    """Return the data set of the folder's Parquet files."""
    root = asked.folder
    found = {} if root is None else find_split_files(root, ".parquet")
    if root is None or not found:
        return None
    splits = {split: partial(_list, root.name, split, files) for split, files in found.items()}
    return Source(name=root.name, splits=splits)


def check_library(name: str) -> None:
    """Refuse a data set that `datasets` reads if that is not installed; `name` names it in the message."""
    if find_spec("datasets") is None:
        raise DataError(
            f"{name} is read by the package 'datasets', which is not installed: pip install "
            "'starnet-search[huggingface]'"
        )


def _list(name: str, split: SplitName, files: Sequence[Path]) -> Split:
    check_library(f"The Parquet data set {name!r}")
    from pyarrow import compute

    image, label = _columns(name, files)
    try:
        loaded = _load(tuple(files), split, image, label)
        table = loaded.with_format("arrow")[:]  # mapped, not read
        targets = table[label].to_numpy(zero_copy_only=False)
        paths = [path or "" for chunk in table[image].chunks for path in chunk.field("path").to_pylist()]
        lengths = (compute.binary_length(chunk.field("bytes")).to_pylist() for chunk in table[image].chunks)
        sizes = [size or 0 for chunk in lengths for size in chunk]
    except Exception as error:  # the library's own, pyarrow's and the file system's share no base class
        raise DataError(f"{name}/{files[0].name} and further files cannot be read: {_cause(error)}") from error
    if targets.dtype.kind not in "iu":
        raise DataError(f"The column {label} in the Parquet files of {name!r} must hold a number for each image.")
    if (lowest := int(targets.min())) < 0:
        raise DataError(
            f"{int((targets < 0).sum()):,} images in the Parquet files of {name!r} have class {lowest}, which is how "
            "the hub marks images whose classes are not given away; such a split cannot be used."
        )
    named = _class_names(loaded.features[label]) or class_synsets(paths, targets.tolist())
    classes = named or tuple(str(number) for number in range(int(targets.max()) + 1))
    if targets.max() >= len(classes):
        raise DataError(f"The Parquet files of {name!r} name {len(classes)} classes but say class {targets.max()}.")
    return Split(
        name=split,
        classes=classes,
        targets=targets.astype(np.int64),
        names=[f"{split} row {row} {path}".rstrip() for row, path in enumerate(paths)],
        content=_Images(tuple(files), split, image, label),
        size_of=sizes.__getitem__,
        numbered=named is None,
    )


@lru_cache(maxsize=8)
def _load(files: tuple[Path, ...], split: str, image: str, label: str) -> Any:
    """Return the images, undecoded, and classes in the library's memory-mapped cache."""
    import datasets

    loaded = datasets.load_dataset("parquet", data_files={split: [str(file) for file in files]}, split=split)
    return loaded.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))


def _columns(name: str, files: Sequence[Path]) -> tuple[str, str]:
    """Return the columns of images and classes; `datasets` takes the first file's word for all of them."""
    import datasets
    from pyarrow import parquet

    first: Any = None
    for file in files:
        try:
            features = datasets.Features.from_arrow_schema(parquet.read_schema(file))
        except Exception as error:  # pyarrow's share no base class with OSError
            reason = reason_of_file(file, error)
            raise DataError(f"{name}/{file.name} cannot be read as Parquet: {reason}") from error
        image, label = _one_of(_IMAGES, features, datasets.Image), _one_of(_LABELS, features, datasets.ClassLabel)
        if image is None or label is None:
            raise DataError(
                f"{name}/{file.name} must have a column of images ({', '.join(_IMAGES)}) and one of classes "
                f"({', '.join(_LABELS)}); it has {', '.join(features)}."
            )
        first = first or (image, label, _class_names(features[label]))
        if (image, label) != first[:2]:
            raise DataError(
                f"The Parquet files of a split must have the same columns; {name}/{file.name} has {image} and {label}, "
                f"{files[0].name} has {first[0]} and {first[1]}."
            )
        if (named := _class_names(features[label])) and first[2] and named != first[2]:
            raise DataError(
                f"{name}/{file.name} names other classes than {files[0].name}, or in another order, so that their "
                "numbers do not say the same. Write both with the same names."
            )
    return first[0], first[1]


def _one_of(usual: Sequence[str], features: Any, kind: type) -> str | None:
    """Return the column of a kind that the metadata says, or one of a usual name; the usual one of several."""
    said = [name for name, feature in features.items() if isinstance(feature, kind)]
    return next((name for name in usual if name in (said or features)), said[0] if len(said) == 1 else None)


def _class_names(feature: Any) -> tuple[str, ...] | None:
    return tuple(feature.names) if getattr(feature, "names", None) else None


def _cause(error: BaseException) -> str:
    """Return the first words of what went wrong: `datasets` wraps it in "An error occurred"."""
    return _cause(error.__cause__) if error.__cause__ is not None else first_line(error)


@dataclass(frozen=True, slots=True)
class _Images:
    """Reads the bytes of an index's image. Another machine that it travels to fills a cache of its own."""

    files: tuple[Path, ...]
    split: str
    image: str
    label: str

    def __call__(self, index: int) -> bytes:
        table = _load(self.files, self.split, self.image, self.label)
        content: bytes | None = (table[index][self.image] or {}).get("bytes")
        if content is None:
            raise OSError("the row has no bytes")
        return content

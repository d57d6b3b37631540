"""Data sets of class folders, on disk or in two tars."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starsearch.data.image_index import ImageIndex, kept_index, tar_files
from starsearch.data.listing import Listing, Source, SplitName, check_links, found_splits, sampled_sizes, some
from starsearch.data.names import (
    assign_splits,
    classes_of_images,
    count_suffixes,
    in_order,
    is_hidden,
    is_image,
    split_of_folder,
    suffixes_in_words,
    visible,
)
from starsearch.data.source import ClassFolder, DataSource
from starsearch.data.stored import FileImages
from starsearch.errors import DataError


def find_folders(path: Path, asked: DataSource) -> Source | None:
    """Return the data set of train/ and validation/ (or as they are called), each of class folders; None without."""
    found = assign_splits(path.name, ((split, f"{folder.name}/", folder) for split, folder in _split_folders(path)))
    return found_splits(path, found, lambda folder: list_folder(f"{path.name}/{folder.name}", folder, asked.classes))


def _split_folders(path: Path) -> list[tuple[str, Path]]:
    """Return the folders that are called after a split and hold class folders.

    One alone that holds none may be a class of that name, such as train among vehicles; test/ often holds images
    whose classes nobody knows.
    """
    entries = visible(path)
    check_links(entry for entry in entries if split_of_folder(entry.name))
    named = [(split, entry) for entry in entries if entry.is_dir() and (split := split_of_folder(entry.name))]
    several = len({split for split, _ in named}) > 1
    return [
        (split, folder)
        for split, folder in named
        if _may_hold_classes(folder, even_if_flat=several and split != "test")
    ]


def _may_hold_classes(folder: Path, *, even_if_flat: bool) -> bool:
    entries = visible(folder)
    if any(entry.is_dir() for entry in entries):
        return True
    return even_if_flat and not any(entry.suffix in (".tar", ".parquet") for entry in entries)


def find_tars(path: Path, asked: DataSource) -> Source | None:
    """Return the data set of train.tar and validation.tar (or as they are called), one folder a class; None without."""
    tars = (file for file in visible(path) if file.suffix == ".tar" and not file.is_dir())
    named = ((split, tar.name, tar) for tar in tars if (split := split_of_folder(tar.stem)))
    found = {split: (split, tar) for split, tar in assign_splits(path.name, named).items()}
    return found_splits(path, found, lambda entry: _list_tar(path, *entry, asked.classes))


def find_plain(path: Path, asked: DataSource) -> Source | None:
    """Return the data set of class folders that have no splits, split by `validation_fraction`; None without any."""
    fraction = asked.validation_fraction
    if fraction is None or not is_of_class_folders(path):
        return None

    @cache
    def listed() -> Listing:
        return list_folder(path.name, path, asked.classes)

    def list_split(split: SplitName) -> Listing:
        held_out = _held_out(path.name, listed(), fraction)
        chosen = listed().chosen(np.flatnonzero(held_out == (split == "validation")))
        return chosen if split == "train" else replace(chosen, left_out={})  # counted once

    return Source(name=path.name, splits=frozenset({"train", "validation"}), list_split=list_split)


def is_of_class_folders(folder: Path) -> bool:
    """Whether a folder has class folders and no splits."""
    inside = {entry.name for entry in visible(folder) if entry.is_dir()}
    return bool(inside) and "data" not in inside and not _split_folders(folder)


def _held_out(name: str, listing: Listing, fraction: float) -> NDArray[np.bool_]:
    """(n,), whether an image is held out for validation: that share of each class, drawn alike every time.

    Raises:
        DataError: a class has one image only.
    """
    rng = np.random.default_rng(0x5EED)
    held_out = np.zeros(len(listing.targets), dtype=np.bool_)
    for target, class_name in enumerate(listing.classes):
        members = np.flatnonzero(listing.targets == target)
        if len(members) < 2:
            raise DataError(f"The class {class_name!r} of {name!r} has one image: none can be held out for validation.")
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:count]] = True
    return held_out


def list_folder(name: str, folder: Path, choice: ClassFolder | None = None) -> Listing:
    """Return the images of class folders, in timm's order.

    Args:
        name: of the folder, for messages.
        folder: that holds the class folders.
        choice: which of nested folders names the class.

    Raises:
        DataError: a class folder is empty, images lie outside of class folders, or there are none.
    """
    try:
        files = _files_below(folder)
    except OSError as error:
        raise DataError(f"{name}/ cannot be read: {error.strerror}.") from error
    names = in_order(file for file in files if is_image(file))
    left_out = count_suffixes(file for file in files if not is_image(file))
    if not names:
        raise DataError(f"There are no images in the class folders of {name}/.{_instead(left_out)}")
    labels = classes_of_images(f"{name}/", names, choice)
    entries = visible(folder)
    check_links(entry for entry in entries if not entry.suffix)  # of a class folder
    folders = {entry.name for entry in entries if entry.is_dir()}
    if empty := folders - {image.partition("/")[0] for image in names}:
        raise DataError(f"Class folders without images in {name}/: {some(empty)}. Fill or remove them.")
    content = FileImages([str(folder / image) for image in names])
    return _listing(
        names,
        labels,
        sizes=sampled_sizes(len(names), content.size_of),
        content=content,
        left_out=left_out,
    )


def _files_below(folder: Path) -> list[str]:
    """Return the paths below the folder of all files that are not hidden; links are followed."""

    def refuse(error: OSError) -> None:
        raise error

    found: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        below = Path(place).relative_to(folder).as_posix()
        found += [name if below == "." else f"{below}/{name}" for name in files if not is_hidden(name)]
    return found


def _list_tar(path: Path, split: SplitName, tar: Path, choice: ClassFolder | None) -> Listing:
    name = f"{path.name}/{tar.name}"
    index = kept_index(path / f"starsearch-index-{split}.npz", [tar], lambda: _index_tar(name, tar))
    return _listing(
        index.names,
        classes_of_images(name, index.names, choice),
        sizes=index.images.sizes.tolist(),
        content=index.images,
        left_out=index.left_out,
    )


def _index_tar(name: str, tar: Path) -> ImageIndex:
    """Index a tar by its images' names: which class they have depends on how it is read."""
    files = tar_files(name, tar)
    by_name = {file: (file, 0, start, size, 0) for file, start, size in files if is_image(file)}
    left_out = count_suffixes(file for file, *_ in files if not is_image(file))
    if not by_name:
        raise DataError(f"There are no images in the class folders of {name}.{_instead(left_out)}")
    return ImageIndex.of([tar], [by_name[file] for file in in_order(by_name)], left_out=left_out)


def _instead(left_out: Mapping[str, int]) -> str:
    """Return what there is in place of images, as a sentence."""
    return f" There are {suffixes_in_words(left_out)} files." if left_out else ""


def _listing(
    names: Sequence[str],
    labels: Sequence[str],
    *,
    sizes: Sequence[int],
    content: Callable[[int], bytes],
    left_out: Mapping[str, int],
) -> Listing:
    classes = tuple(in_order(set(labels)))
    numbers = {label: number for number, label in enumerate(classes)}
    return Listing(
        classes=classes,
        targets=np.array([numbers[label] for label in labels], dtype=np.int64),
        names=names,
        sizes=sizes,
        content=content,
        left_out=left_out,
    )

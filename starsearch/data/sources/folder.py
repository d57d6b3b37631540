"""Folders train/ and validation/ of class folders."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starsearch.data.dataset import Source, Split, SplitName, quoted
from starsearch.data.names import (
    assign_splits,
    check_links,
    classes_of_images,
    images_and_others,
    is_hidden,
    no_images,
    split_of_folder,
    visible,
)
from starsearch.data.source import ClassFolder, DataSource
from starsearch.errors import DataError

FORM = "a folder with train/ and validation/ (or val/, valid/, test/) of class folders"


def find(asked: DataSource) -> Source | None:
    """Return the data set of the folder's splits."""
    root = asked.folder
    if root is None:
        return None
    found = assign_splits(root.name, ((split, f"{folder.name}/", folder) for split, folder in split_folders(root)))
    splits = {
        split: partial(list_folder, split, f"{root.name}/{folder.name}", folder, asked.classes)
        for split, folder in found.items()
    }
    return Source(name=root.name, splits=splits, options=frozenset({"classes"})) if splits else None


def split_folders(path: Path) -> list[tuple[str, Path]]:
    """Return the folders that are named after a split and hold class folders.

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


def list_folder(split: SplitName, name: str, folder: Path, choice: ClassFolder | None) -> Split:
    """Return the images of class folders, in timm's order; `name` is the folder's, for messages."""
    try:
        names, left_out = images_and_others(_files_below(folder))
    except OSError as error:
        raise DataError(f"{name}/ cannot be read: {error.strerror}.") from error
    if not names:
        raise no_images(f"{name}/", left_out)
    classes, targets = classes_of_images(f"{name}/", names, choice)
    entries = visible(folder)
    check_links(entry for entry in entries if not entry.suffix)  # class folders
    folders = {entry.name for entry in entries if entry.is_dir()}
    if empty := folders - {image.partition("/")[0] for image in names}:
        raise DataError(f"Class folders without images in {name}/: {quoted(empty)}. Fill or remove them.")
    files = _Files(folder, names)
    return Split(
        name=split,
        classes=classes,
        targets=targets,
        names=names,
        content=files,
        size_of=files.size_of,
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


@dataclass(frozen=True, slots=True)
class _Files:
    """Reads an index's image, each a file of its own."""

    folder: Path
    names: list[str]

    def __call__(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()

    def size_of(self, index: int) -> int:
        """Return the file's size in bytes; 0 for a link that leads nowhere, which is an unreadable image."""
        with suppress(OSError):
            return (self.folder / self.names[index]).stat().st_size
        return 0

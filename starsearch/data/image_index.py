"""`ImageIndex`: where each image lies in large tars. Made once, then kept in a file beside them."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from starsearch.data.listing import Listing, check_links, sampled_sizes
from starsearch.data.names import image_suffixes, is_hidden
from starsearch.data.reading import reason_of_file
from starsearch.data.stored import Integers, StoredImages
from starsearch.errors import DataError

_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIndex:
    """The images of some tars.

    Attributes:
        names: (n,) of the images, without a line break.
        images: where they lie, of files in the order of the tars.
        targets: (n,), the class of each.
        left_out: files that are not trained on, by suffix.
    """

    names: list[str]
    images: StoredImages
    targets: Integers
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        tars: Sequence[Path],
        rows: Sequence[tuple[str, int, int, int, int]],
        *,
        left_out: Mapping[str, int] | None = None,
    ) -> Self:
        """The index of rows (name, number of the tar, start, size, class)."""
        columns = np.array([row[1:] for row in rows], dtype=np.int64).reshape(len(rows), 4)
        numbers, starts, sizes, targets = columns.T.copy()
        images = StoredImages(files=tuple(tars), file_numbers=numbers, starts=starts, sizes=sizes)
        return cls(names=[row[0] for row in rows], images=images, targets=targets, left_out=left_out or {})

    def listing(self, classes: Sequence[str], *, numbered: bool = False) -> Listing:
        """The images as a split of these classes."""
        return Listing(
            classes=tuple(classes),
            targets=self.targets,
            names=self.names,
            sizes=sampled_sizes(len(self.names), self.images.size_of),
            content=self.images,
            numbered=numbered,
            left_out=self.left_out,
        )


def kept_index(file: Path, tars: Sequence[Path], build: Callable[[], ImageIndex]) -> ImageIndex:
    """The index in `file` where that is of just these tars, else a new one, kept there if the folder can be written.

    Reading every member's header of ImageNet's tars takes minutes and each process of a training would do it again.
    The file holds arrays and text only (no pickle): it may come with a data set from anywhere.

    Args:
        file: beside the tars.
        tars: whose names, sizes and times of change tell whether the file is of them.
        build: reads the tars.

    Raises:
        DataError: by `build`.
    """
    rule = [_VERSION, sorted(image_suffixes())]  # an index made by another one is of other images
    check_links(tars)
    about = json.dumps([*rule, *([tar.name, tar.stat().st_size, tar.stat().st_mtime_ns] for tar in tars)])
    found = _load(file, tars, about)
    if found is None:
        found = build()
        with suppress(OSError):  # a data set is often mounted for reading only
            _save(file, found, about)
    return found


def _load(file: Path, tars: Sequence[Path], about: str) -> ImageIndex | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            if bytes(kept["about"]).decode() != about:
                return None
            names = bytes(kept["names"]).decode().split("\n")
            left_out = json.loads(bytes(kept["left_out"]))
            numbers, starts, sizes, targets = kept["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(names) != len(targets) or not (numbers.min() >= 0 and numbers.max() < len(tars)):
        return None
    images = StoredImages(files=tuple(tars), file_numbers=numbers, starts=starts, sizes=sizes)
    return ImageIndex(names=names, images=images, targets=targets, left_out=left_out)


def _save(file: Path, index: ImageIndex, about: str) -> None:
    """Several ranks may write it at once: each its own file, then in place at once."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    images = index.images
    try:
        with partial.open("wb") as stream:
            np.savez(
                stream,
                about=_bytes(about),
                names=_bytes("\n".join(index.names)),
                left_out=_bytes(json.dumps(index.left_out)),
                rows=np.stack([images.file_numbers, images.starts, images.sizes, index.targets]),
            )
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


@contextmanager
def opened_tar(name: str, tar: Path) -> Iterator[tarfile.TarFile]:
    """An uncompressed tar, whose members' places in the file are to be read.

    Raises:
        DataError: it is damaged, cut off, compressed or no tar at all.
    """
    try:
        with tarfile.open(tar, "r:") as opened:
            yield opened
    except (tarfile.TarError, OSError, EOFError) as error:
        why = reason_of_file(tar, error)
        raise DataError(
            f"{name} cannot be read as an uncompressed tar: {why}. Fetch it again, or unpack what compresses it."
        ) from error


def tar_files(name: str, tar: Path) -> list[tuple[str, int, int]]:
    """Return the files of a tar that are not hidden: path, start, size; a tar inside it stands for a folder.

    Raises:
        DataError: as `opened_tar`.
    """
    with opened_tar(name, tar) as opened:
        return list(_files_of(opened))


def _files_of(opened: tarfile.TarFile, folder: str = "", begin: int = 0) -> Iterator[tuple[str, int, int]]:
    for member in opened:
        if not member.isfile() or is_hidden(member.name):
            continue
        if member.name.endswith(".tar") and not folder:
            content = opened.extractfile(member)
            assert content is not None  # a regular file
            with tarfile.open(fileobj=content, mode="r:") as inner:
                yield from _files_of(inner, f"{member.name.removesuffix('.tar')}/", begin + member.offset_data)
        else:
            yield f"{folder}{member.name}", begin + member.offset_data, member.size

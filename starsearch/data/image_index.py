"""`ImageIndex`: where each image lies in large tars. Made once, then kept in a file beside them."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from starsearch.data.listing import Listing, sampled_sizes
from starsearch.data.stored import Integers, StoredImages
from starsearch.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIndex:
    """The images of some tars.

    Attributes:
        names: (n,) of the images, without a line break.
        images: where they lie, of files in the order of the tars.
        targets: (n,), the class of each.
    """

    names: list[str]
    images: StoredImages
    targets: Integers

    @classmethod
    def of(cls, tars: Sequence[Path], rows: Sequence[tuple[str, int, int, int, int]]) -> Self:
        """The index of rows (name, number of the tar, start, size, class)."""
        columns = np.array([row[1:] for row in rows], dtype=np.int64).reshape(len(rows), 4)
        numbers, starts, sizes, targets = columns.T.copy()
        images = StoredImages(files=tuple(tars), file_numbers=numbers, starts=starts, sizes=sizes)
        return cls(names=[row[0] for row in rows], images=images, targets=targets)

    def listing(self, classes: Sequence[str], *, numbered: bool = False) -> Listing:
        """The images as a split of these classes."""
        return Listing(
            classes=tuple(classes),
            targets=self.targets,
            names=self.names,
            sizes=sampled_sizes(len(self.names), lambda index: int(self.images.sizes[index])),
            content=self.images,
            numbered=numbered,
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
    about = json.dumps([_VERSION, *([tar.name, tar.stat().st_size, tar.stat().st_mtime_ns] for tar in tars)])
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
            numbers, starts, sizes, targets = kept["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(names) != len(targets) or not (numbers.min() >= 0 and numbers.max() < len(tars)):
        return None
    images = StoredImages(files=tuple(tars), file_numbers=numbers, starts=starts, sizes=sizes)
    return ImageIndex(names=names, images=images, targets=targets)


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
        raise DataError(
            f"{name} cannot be read as an uncompressed tar: {error}. Fetch it again, or unpack what compresses it."
        ) from error


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; what macOS packs beside the files ("._…") is not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not Path(name).name.startswith(".")

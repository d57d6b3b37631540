"""Images as files, or one behind the other in large files (tars): found once, then read by their place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FileImages:
    """Reads the bytes of an index's image, each a file of its own."""

    paths: list[str]

    def __call__(self, index: int) -> bytes:
        """Return the image's encoded bytes."""
        return Path(self.paths[index]).read_bytes()

    def size_of(self, index: int) -> int:
        """Return its size in bytes; 0 of a link that leads nowhere, which is an unreadable image."""
        with suppress(OSError):
            return Path(self.paths[index]).stat().st_size
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImages:
    """Reads the bytes of an index's image. The file is opened for each: nothing is shared by forked processes.

    Attributes:
        files: that hold the images.
        file_numbers: (n,), which of them holds an image.
        starts: (n,), where it begins there, in bytes.
        sizes: (n,), how long it is, in bytes.
    """

    files: tuple[Path, ...]
    file_numbers: Integers
    starts: Integers
    sizes: Integers

    @classmethod
    def of_one_file(cls, file: Path, starts: Sequence[int], sizes: Sequence[int]) -> Self:
        """Images that all lie in one file."""
        numbers = np.zeros(len(starts), dtype=np.int64)
        return cls(
            files=(file,),
            file_numbers=numbers,
            starts=np.array(starts, dtype=np.int64),
            sizes=np.array(sizes, dtype=np.int64),
        )

    def __call__(self, index: int) -> bytes:
        """Return the image's encoded bytes."""
        with self.files[self.file_numbers[index]].open("rb") as file:
            file.seek(int(self.starts[index]))
            content: bytes = file.read(int(self.sizes[index]))  # numpy leaves the path's type open
            return content

    def size_of(self, index: int) -> int:
        """Return its size in bytes."""
        return int(self.sizes[index])

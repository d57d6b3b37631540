"""Decoding one image, and what may go wrong there."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# What Pillow raises on damaged files, by format: "cannot identify", a broken PNG chunk, a truncated TIFF directory; and
# on a file that says it has more than 179 million pixels, as a damaged header may.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode_rgb(content: bytes) -> Image.Image:
    """The image of an encoded file (JPEG, PNG, …) with three channels; grey and CMYK are converted.

    Raises:
        OSError, or another of `UNREADABLE`: it is damaged.
    """
    return Image.open(io.BytesIO(content)).convert("RGB")


def reason_of(error: Exception) -> str:
    """What was wrong with an image, in few words; Pillow names the stream it was given, which says nothing."""
    return re.sub(r"\s*<[^>]*>", "", str(error)) or type(error).__name__


@dataclass(frozen=True, slots=True)
class ReadByTimm:
    """Decodes the image of an index by a timm reader; timm's own data set would hide a broken one behind the next."""

    reader: Any

    def __call__(self, index: int) -> Image.Image:
        """The image, with three channels.

        Raises:
            OSError, or another of `UNREADABLE`: it cannot be read.
        """
        with self.reader[index][0] as file:
            return decode_rgb(file.read())


@dataclass(eq=False)
class MappedImages:
    """A map-style data set of torch's, (transformed image, class) at an index, over a split's own way of reading.

    Attributes:
        read: decodes the image of an index.
        targets: (n,), the class of each image.
        transform: of the image; None leaves it as it is.
    """

    read: Callable[[int], Image.Image]
    targets: NDArray[np.int64]
    transform: Callable[[Image.Image], Any] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.read(index)
        return image if self.transform is None else self.transform(image), int(self.targets[index])

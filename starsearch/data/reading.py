"""Decoding one image to 8-bit RGB, and what may go wrong there."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from starsearch.data.source import Orientation

# What Pillow raises on damaged files, by format: "cannot identify", a broken PNG chunk, a truncated TIFF directory; and
# on a file that says it has more than 179 million pixels, as a damaged header may.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
BACKGROUND = (255, 255, 255)  # what transparent pixels show
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_REASON = "a pointer of Git LFS in place of the file; fetch it with `git lfs pull`"
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION = 258, 262  # tags of TIFF


def to_rgb(image: Image.Image, *, orientation: Orientation) -> Image.Image:
    """Return an opened picture as 8-bit RGB, whatever its mode.

    Values are scaled by the range that the format gives them: 16-bit integers are divided by 257, floating-point
    numbers are taken from 0..1. Transparency is laid over `BACKGROUND`. What the mode was is `info["mode"]`.

    Args:
        image: as Pillow opens it; turned in place.
        orientation: "exif" turns it upright as its EXIF says, "stored" leaves it.

    Raises:
        ValueError: nothing says the range of its values.
        OSError, or another of `UNREADABLE`: it is damaged.
    """
    if orientation == "exif":
        ImageOps.exif_transpose(image, in_place=True)
    mode = image.mode
    if mode[0] in "IF":
        image = _to_grey(image)
    elif mode == "La":  # Pillow converts it to LA alone
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    image = image.convert("RGB")
    image.info["mode"] = mode
    return image


def _to_grey(image: Image.Image) -> Image.Image:
    """Scale the integers of more than 8 bits, or floating-point numbers, of a grey image."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode == "F":
        low, high, top = values.min(), values.max(), 1
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating-point values must lie in 0..1 but reach from {low:g} to {high:g}")
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
        top = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    else:
        raise ValueError("integers of 32 bits or with a sign, whose range the file does not say; store 8 or 16 bits")
    grey = np.rint(values * (255 / top)).astype(np.uint8)
    return Image.fromarray(255 - grey if tags.get(_PHOTOMETRIC_INTERPRETATION) == 0 else grey)


def reason_of(error: Exception) -> str:
    """What was wrong with an image, in few words; Pillow names the stream it was given, which says nothing."""
    if isinstance(error, FileNotFoundError):
        return "the file is gone, or a link that leads nowhere"
    return re.sub(r"\s*<[^>]*>", "", getattr(error, "strerror", None) or str(error)) or type(error).__name__


def reason_of_file(file: Path, error: Exception) -> str:
    """What was wrong with a file of many images, in a line."""
    with suppress(OSError), file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return _LFS_REASON
    return reason_of(error).strip().splitlines()[0]


@dataclass(frozen=True, slots=True)
class DecodedImages:
    """Decodes the image of an index, or whatever `content` goes by.

    Attributes:
        content: the bytes of its file (JPEG, PNG, …).
        orientation: as `to_rgb` takes it.
    """

    content: Callable[[Any], bytes]
    orientation: Orientation

    def __call__(self, index: Any) -> Image.Image:
        """The image, with three channels.

        Raises:
            OSError, or another of `UNREADABLE`: it cannot be read.
        """
        content = self.content(index)
        if content.startswith(_LFS_POINTER):
            raise OSError(_LFS_REASON)
        return to_rgb(Image.open(io.BytesIO(content)), orientation=self.orientation)

"""Decoding one image to 8-bit RGB, and what may go wrong there."""

from __future__ import annotations

import io
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from starsearch.data.source import Orientation
from starsearch.errors import first_line

# What Pillow raises on damaged files, by format: "cannot identify", a broken PNG chunk, a truncated TIFF directory; and
# on a file that claims more than 179 million pixels, as a damaged header may.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
BACKGROUND = (255, 255, 255)  # what transparent pixels show
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_REASON = "a pointer of Git LFS in place of the file; fetch it with `git lfs pull`"
_BITS_PER_SAMPLE, _PHOTOMETRIC_INTERPRETATION = 258, 262  # TIFF tags


def decode_image(content: bytes | Image.Image, orientation: Orientation) -> Image.Image:
    """Return a picture as 8-bit RGB, whatever its mode; `info["mode"]` says what that was.

    Values are scaled by the range that the format gives them: 16-bit integers are divided by 257, floating-point
    numbers are taken from 0..1. Transparency is laid over `BACKGROUND`.

    Args:
        content: an encoded file, or a picture opened by Pillow, which is turned in place.
        orientation: "exif" turns the picture upright as its EXIF tag says, "stored" leaves it.

    Raises:
        OSError, ValueError, or another of `UNREADABLE`: it is damaged, or nothing says the range of its values.
    """
    if isinstance(content, bytes):
        if content.startswith(_LFS_POINTER):
            raise OSError(_LFS_REASON)
        content = Image.open(io.BytesIO(content))
    if orientation == "exif":
        ImageOps.exif_transpose(content, in_place=True)
    image, mode = content, content.mode
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
    """Scale a grey image of integers of more than 8 bits, or of floating-point numbers."""
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
    """Return what was wrong with an image; Pillow names the stream it was given, which says nothing."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing, or a link that leads nowhere"
    return re.sub(r"\s*<[^>]*>", "", getattr(error, "strerror", None) or str(error)) or type(error).__name__


def reason_of_file(file: Path, error: Exception) -> str:
    """Return what was wrong with a file of many images, in one line."""
    with suppress(OSError), file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return _LFS_REASON
    return first_line(reason_of(error))

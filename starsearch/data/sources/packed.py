"""Packs: a data set decoded once, at one resolution, in a file that all processes of a machine map into memory.

The file begins with JSON of a fixed length, which says its version, its source, how far it is and, once it is finished,
how many images it has and a random text that tells this packing from others. The pixels of the training and then of the
validation images follow, each (side, side, 3) uint8, and an .npz of classes, names, targets and a checksum of each
image. Images that cannot be read are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from starsearch.data.dataset import INTERPOLATION, SPLITS, DataSet, Source, Split, SplitName
from starsearch.data.source import DataSource
from starsearch.errors import DataError

FORM = "a file made by `starsearch data pack`, for its resolution and lower ones"
_MARK, _VERSION = "starsearch pack", 1
_PREAMBLE = 1 << 18  # bytes, in which all images that may be unreadable can be listed
_SAY_EVERY_S = 5.0  # how much of the work a pack that is cut off may lose
_BATCH = 128  # images that a process decodes at a time
_CHECKED = 64  # images of a split whose checksums are looked at when it is opened


@dataclass(frozen=True, slots=True)
class PackedPixels:
    """The pixels of a split, (count, side, side, 3) uint8, mapped when they are called for; pickled as their place."""

    file: str
    start: int
    count: int
    side: int
    digest: str  # of its preamble, which tells it from another packing, wherever it lies

    def __call__(self) -> NDArray[np.uint8]:
        """Return them.

        Raises:
            DataError: the pack is gone, or another one lies in its place.
        """
        return _mapped(self)

    def picture(self, index: int) -> Image.Image:
        """Return an image as Pillow has it."""
        return Image.fromarray(_mapped(self)[index])

    def size_of(self, _: int) -> int:
        """Return an image's size in bytes."""
        return 3 * self.side**2


@lru_cache(maxsize=8)
def _mapped(pixels: PackedPixels) -> NDArray[np.uint8]:
    try:
        with Path(pixels.file).open("rb") as stream:
            if _digest(stream.read(_PREAMBLE)) == pixels.digest:
                return _map(stream, pixels.start, pixels.count, pixels.side)
    except (OSError, ValueError) as error:  # also one that is cut off
        raise DataError(f"The pack {pixels.file} cannot be read any more ({error}): put it back.") from error
    raise DataError(f"The pack {pixels.file} is not the one that was opened: copy that here, or begin again.")


def _map(stream: BinaryIO, start: int, count: int, side: int) -> NDArray[np.uint8]:
    # "c": torch wants to be able to write; what it wrote would stay with the process.
    return np.asarray(np.memmap(stream, np.uint8, "c", start, (count, side, side, 3)))


def _digest(preamble: bytes) -> str:
    return hashlib.sha256(preamble).hexdigest()


def find(asked: DataSource) -> Source | None:
    """Return the data set of a pack."""
    file = Path(asked.path).expanduser()
    about = _read_preamble(file)
    if about is None:
        return None
    if about[_MARK] != _VERSION:
        raise DataError(f"The pack {file.name} is of version {about[_MARK]}, not {_VERSION}: {_again(about)}")
    if about["counts"] is None:
        raise DataError(
            f"The pack {file.name} is not finished: it was cut off after {sum(about['done']):,} images or later. "
            f"The same command goes on with it: {_again(about)}"
        )
    splits: dict[SplitName, Any] = {name: partial(_list, file.resolve(), name) for name in SPLITS}
    channels: dict[str, Any] = {name: tuple(about[name]) for name in ("mean", "std")}
    return Source(name=file.name, splits=splits, orientation=about["orientation"], **channels)


def _again(about: dict[str, Any]) -> str:
    return f"`starsearch data pack {about['data']} --resolution {about['resolution']} --out …`."


def _read_preamble(file: Path) -> dict[str, Any] | None:
    """Return what a pack's first bytes say; None if the file is none."""
    with suppress(OSError, ValueError), file.open("rb") as stream:
        about = json.loads(stream.read(_PREAMBLE))
        return about if isinstance(about, dict) and _MARK in about else None
    return None


def _list(file: Path, name: SplitName) -> Split:
    with file.open("rb") as stream:
        preamble = stream.read(_PREAMBLE)
    about = json.loads(preamble)
    number, side = SPLITS.index(name), about["resolution"]
    starts = [_PREAMBLE + 3 * side**2 * count for count in (0, about["counts"][0], sum(about["counts"]))]
    pixels = PackedPixels(str(file), starts[number], about["counts"][number], side, _digest(preamble))
    try:
        with file.open("rb") as stream:
            stream.seek(starts[2])
            arrays = dict(np.load(stream, allow_pickle=False))
        names, classes = (bytes(arrays[key]).decode().split("\n") for key in (f"{name} names", "classes"))
        sums, looked_at = arrays[f"{name} sums"], np.linspace(0, pixels.count - 1, min(_CHECKED, pixels.count))
        images = pixels()
        if wrong := [names[index] for index in looked_at.astype(int) if zlib.crc32(images[index]) != sums[index]]:
            raise ValueError(f"of {len(looked_at)} images that were checked {len(wrong)} differ, first {wrong[0]}")
    except Exception as error:  # numpy's and zipfile's, as the damage has it
        raise DataError(
            f"The pack {file.name} is damaged ({error}): remove it, and pack again, {_again(about)}"
        ) from None
    return Split(
        name=name,
        classes=tuple(classes),
        targets=arrays[f"{name} targets"],
        names=names,
        content=pixels.picture,
        size_of=pixels.size_of,
        in_memory=True,
        pixels=pixels,
    )


def pack(
    data: DataSet, file: Path, *, resolution: int, workers: int | None = None
) -> Generator[float, None, Sequence[int]]:
    """Write a pack, or go on with one that was cut off; yield the fraction done, return the images of each split.

    An image is resized so that its shorter side is `resolution`, and cropped to the square in its middle, as for a
    training at that resolution.

    Raises:
        DataError: there is another file, or a pack of something else; the disk is too small; too many images cannot be
            read.
    """
    from starsearch.data.preprocessing import Preprocessing
    from starsearch.data.unreadable import Unreadable
    from starsearch.data.workers import LoadedImages, Samples

    splits, size = (data.train, data.validation), 3 * resolution**2
    about: dict[str, Any] = {_MARK: _VERSION, "resolution": resolution, "data": data.name}
    about |= {name: getattr(data, name) for name in ("fingerprint", "orientation")}
    about |= {name: list(getattr(data, name)) for name in ("mean", "std")}
    if file.exists():
        about = _same(file, about)
        if about["counts"] is not None:
            return cast("Sequence[int]", about["counts"])
    else:
        about |= {"done": [0, 0], "unreadable": [[], []], "counts": None}
    wanted = size * (sum(map(len, splits)) - sum(about["done"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    if (lacking := wanted - shutil.disk_usage(file.parent).free) > 0:
        raise DataError(
            f"The pack takes {wanted / 1e9:,.2f} GB more, {lacking / 1e9:,.2f} GB more than {file.parent} has room "
            "for. Take a lower --resolution, or another disk by --out."
        )
    transform = Preprocessing(resolution=resolution, interpolation=INTERPOLATION, crop_pct=1.0).transform()
    with file.open("r+b" if file.exists() else "w+b") as stream:
        _say(stream, about)
        stream.truncate(_PREAMBLE + size * (sum(about["done"]) - sum(map(len, about["unreadable"]))))
        said = time.monotonic()
        for number, split in enumerate(splits):
            numbered = replace(split, targets=np.arange(len(split)))  # so that each image comes with its index
            images = LoadedImages(
                Samples(numbered, transform, seed=0, substitutes=None),
                Unreadable(data.name, split, len(split), "They are left out."),
                workers,
            )
            done, broken = about["done"], about["unreadable"][number]
            for pixels, indices in images.load(np.arange(done[number], len(split)), epoch=0, batch_size=_BATCH):
                stream.seek(0, os.SEEK_END)
                stream.write(pixels.numpy().tobytes())
                end = int(indices[-1]) + 1
                broken += sorted({*range(done[number], end)}.difference(indices.tolist()))
                done[number] = end
                if time.monotonic() - said > _SAY_EVERY_S:
                    _say(stream, about)
                    said = time.monotonic()
                yield sum(done) / sum(map(len, splits))
            broken += range(done[number], len(split))
            done[number] = len(split)
        stream.flush()
        arrays: dict[str, Any] = {"classes": _as_bytes(data.classes)}
        counts: list[int] = []
        for split, broken in zip(splits, about["unreadable"], strict=True):
            readable = np.delete(np.arange(len(split)), broken)
            mapped = _map(stream, _PREAMBLE + size * sum(counts), len(readable), resolution)
            arrays[f"{split.name} names"] = _as_bytes([split.names[index] for index in readable.tolist()])
            arrays[f"{split.name} targets"] = split.targets[readable]
            arrays[f"{split.name} sums"] = np.array([zlib.crc32(image) for image in mapped], dtype=np.uint32)
            counts.append(len(readable))
        stream.seek(0, os.SEEK_END)
        np.savez(stream, **arrays)
        _say(stream, about | {"counts": counts, "packing": secrets.token_hex(8)})
    return counts


def _same(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return what the pack that is there says of itself; refuse one of anything else, and any other file."""
    if (found := _read_preamble(file)) is None:
        raise DataError(f"{file} is there and no pack: give another --out.")
    if differing := [
        f"{key} {found.get(key)} there, {about[key]} here" for key in about if found.get(key) != about[key]
    ]:
        raise DataError(
            f"The pack {file.name} is of something else, or its source has changed: {'; '.join(differing)}. Remove it, "
            "or give another --out."
        )
    return found


def _say(stream: BinaryIO, about: dict[str, Any]) -> None:
    """Write the preamble, after what it tells of is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
    stream.seek(0)
    stream.write(json.dumps(about).encode().ljust(_PREAMBLE))
    stream.flush()


def _as_bytes(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)

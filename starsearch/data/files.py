"""Data sets of files: folders of class folders, and tars of them, read by timm and checked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from starsearch.data.dataset import DataSet, Split
from starsearch.errors import DataError

_MOST_SIZES = 10_000  # files whose size enters the fingerprint: asking for ImageNet's 1.3 million takes a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What a split holds, not decoded. `images` are names below the split and sizes in bytes, as timm orders them."""

    dataset: Any
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    images: Sequence[tuple[str, int]]
    read: Callable[[int], Any]


def open_folder(name: str, train: Path, validation: Path, *, cache_limit_bytes: int) -> DataSet:
    """The data set of two folders of class folders.

    Raises:
        DataError: a class folder is empty, images lie outside of class folders, the classes differ, or there are none.
    """
    return _open(name, train, validation, _list_folder, cache_limit_bytes)


def open_tars(name: str, train: Path, validation: Path, *, cache_limit_bytes: int) -> DataSet:
    """The data set of two tars, one folder a class in each.

    Raises:
        DataError: a tar is damaged or holds no images, or the classes differ.
    """
    return _open(name, train, validation, _list_tar, cache_limit_bytes)


def _open(
    name: str, train: Path, validation: Path, list_images: Callable[[str, Path], _Listing], cache_limit_bytes: int
) -> DataSet:
    training, validating = (list_images(f"{name}/{path.name}", path) for path in (train, validation))
    check_same_classes(name, training.classes, validating.classes)
    return DataSet(
        name=name,
        classes=training.classes,
        train=_split("train", training),
        validation=_split("validation", validating),
        fingerprint=_fingerprint(training, validating),
        cache_limit_bytes=cache_limit_bytes,
    )


def _list_folder(name: str, folder: Path) -> _Listing:
    from timm.data import create_dataset

    try:
        dataset = create_dataset("", root=str(folder), search_split=False)
    except RuntimeError:  # timm found no image
        raise DataError(f"There are no images in the class folders of {name}/.") from None
    except OSError as error:
        raise DataError(f"{name}/ cannot be read: {error.strerror}.") from error
    reader = dataset.reader
    files = [Path(file) for file, _ in reader.samples]
    names = [file.relative_to(folder).as_posix() for file in files]
    _check_class_folders(name, folder, names)
    every = -(-len(files) // _MOST_SIZES)
    sizes = [0 if index % every else file.stat().st_size for index, file in enumerate(files)]
    return _Listing(
        dataset=dataset,
        classes=tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.get)),
        targets=np.array([target for _, target in reader.samples], dtype=np.int64),
        images=list(zip(names, sizes, strict=True)),
        read=read_past_timm(reader),
    )


def _check_class_folders(name: str, folder: Path, images: Iterable[str]) -> None:
    """Refuse what timm passes over: an empty class folder, and images beside the class folders."""
    filled = {image.partition("/")[0] for image in images}
    folders = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if outside := filled - folders:
        raise DataError(
            f"Images lie outside of class folders in {name}/: {_some(outside)}; move them into their class's."
        )
    if empty := folders - filled:
        raise DataError(f"Class folders without images in {name}/: {_some(empty)}. Fill or remove them.")


def _list_tar(name: str, tar: Path) -> _Listing:
    from timm.data import create_dataset

    try:
        dataset = create_dataset("", root=str(tar))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{name} cannot be read as a tar: {error}.") from error
    except ValueError:  # timm found no image
        raise DataError(f"There are no images in the class folders of {name}.") from None
    reader = dataset.reader
    if outside := [member.path for member, *_ in reader.samples if "/" not in member.path.removeprefix("./")]:
        raise DataError(
            f"Images lie outside of class folders in {name}: {_some(outside)}; move them into their class's."
        )
    return _Listing(
        dataset=dataset,
        classes=tuple(sorted(reader.class_name_to_idx, key=reader.class_name_to_idx.get)),
        targets=np.asarray(reader.targets, dtype=np.int64),
        images=[(member.path, member.size) for member, *_ in reader.samples],
        read=_read_member(tar, reader.samples),
    )


def _read_member(tar: Path, samples: Any) -> Callable[[int], Any]:
    """Decodes an image of a tar. timm's reader keeps the tar open, and forked workers would share its position."""
    from PIL import Image

    def read(index: int) -> Image.Image:
        member, _, inner_tar = samples[index]
        with tar.open("rb") as file:
            file.seek(member.offset_data + (inner_tar.offset_data if inner_tar else 0))
            return Image.open(io.BytesIO(file.read(member.size))).convert("RGB")

    return read


def check_same_classes(name: str, train: Iterable[str], validation: Iterable[str]) -> None:
    """Refuse a data set whose splits have other classes, or fewer than two.

    Raises:
        DataError: naming the classes that one split lacks.
    """
    training, validating = set(train), set(validation)
    lacking = {"validation": training - validating, "training": validating - training}
    found = [f"{split} lacks {_some(classes)}" for split, classes in lacking.items() if classes]
    if found:
        raise DataError(f"Training and validation of {name!r} have other classes: {'; '.join(found)}.")
    if len(training) < 2:
        raise DataError(f"A data set has two classes or more; {name!r} has only {_some(training)}.")


def _some(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(repr(name) for name in ordered[:most]) + more


def _split(name: Literal["train", "validation"], listing: _Listing) -> Split:
    return Split(
        name=name,
        targets=listing.targets,
        read=listing.read,
        image_name=lambda index: listing.images[index][0],
        timm_dataset=listing.dataset,
    )


def read_past_timm(reader: Any) -> Callable[[int], Any]:
    """Decodes the image of an index by a timm reader; timm's own data set would hide a broken one behind the next."""
    from PIL import Image

    def read(index: int) -> Image.Image:
        with reader[index][0] as file:
            return Image.open(file).convert("RGB")

    return read


def _fingerprint(*listings: _Listing) -> str:
    digest = hashlib.sha256()
    for listing in listings:
        lines = [*listing.classes, "", *(f"{name} {size}" for name, size in listing.images), ""]
        digest.update("\n".join(lines).encode())
    return digest.hexdigest()[:12]

"""Data sets of class folders, on disk or in two tars, listed by timm and checked."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from starsearch.data.listing import Listing, Source, SplitName, found_splits, sampled_sizes, some
from starsearch.data.stored import StoredImages
from starsearch.errors import DataError


def find_folders(path: Path) -> Source | None:
    """The data set of train/ and validation/ (or val/), each of class folders; None where neither is there."""
    return _source(path, "", _holds_class_folders, list_folder)


def find_tars(path: Path) -> Source | None:
    """The data set of train.tar and validation.tar (or val.tar), one folder a class in each; None without either."""
    return _source(path, ".tar", Path.is_file, _list_tar)


def _holds_class_folders(folder: Path) -> bool:
    """Whether this is a split of class folders, be they empty, and not a folder of shards or Parquet files."""
    if not folder.is_dir():
        return False
    entries = list(folder.iterdir())
    holds_others = any(entry.suffix in (".tar", ".parquet") for entry in entries)
    return not holds_others or any(entry.is_dir() for entry in entries)


def _source(
    path: Path, suffix: str, exists: Callable[[Path], bool], list_images: Callable[[str, Path], Listing]
) -> Source | None:
    wanted: dict[SplitName, tuple[str, ...]] = {"train": ("train",), "validation": ("validation", "val")}
    found: dict[SplitName, Path] = {}
    for split, names in wanted.items():
        for name in reversed(names):
            if exists(path / f"{name}{suffix}"):
                found[split] = path / f"{name}{suffix}"
    return found_splits(path, found, lambda entry: list_images(f"{path.name}/{entry.name}", entry))


def list_folder(name: str, folder: Path) -> Listing:
    """The images of class folders, in timm's order.

    Args:
        name: of the folder, for messages.
        folder: that holds the class folders.

    Raises:
        DataError: a class folder is empty, images lie outside of class folders, or there are none.
    """
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
    return Listing(
        classes=tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.get)),
        targets=np.array([target for _, target in reader.samples], dtype=np.int64),
        names=names,
        sizes=sampled_sizes(len(files), lambda index: _size_of(files[index])),
        content=_Files([str(file) for file in files]),
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """Reads the bytes of the file of an index."""

    paths: list[str]

    def __call__(self, index: int) -> bytes:
        return Path(self.paths[index]).read_bytes()


def _size_of(file: Path) -> int:
    """Its bytes; 0 of a link that leads nowhere, which is an unreadable image."""
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _check_class_folders(name: str, folder: Path, images: Iterable[str]) -> None:
    """Refuse what timm passes over: an empty class folder, and images beside the class folders."""
    filled = {image.partition("/")[0] for image in images}
    folders = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if outside := filled - folders:
        raise DataError(
            f"Images lie outside of class folders in {name}/: {some(outside)}; move them into their class's."
        )
    if empty := folders - filled:
        raise DataError(f"Class folders without images in {name}/: {some(empty)}. Fill or remove them.")


def _list_tar(name: str, tar: Path) -> Listing:
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
            f"Images lie outside of class folders in {name}: {some(outside)}; move them into their class's."
        )
    starts = [
        member.offset_data + (inner_tar.offset_data if inner_tar else 0) for member, _, inner_tar in reader.samples
    ]
    sizes = [member.size for member, *_ in reader.samples]
    return Listing(
        classes=tuple(sorted(reader.class_name_to_idx, key=reader.class_name_to_idx.get)),
        targets=np.asarray(reader.targets, dtype=np.int64),
        names=[member.path for member, *_ in reader.samples],
        sizes=sizes,
        # Not by timm's reader: it keeps the tar open, and forked workers would share its position.
        content=StoredImages.of_one_file(tar, starts, sizes),
    )

"""What ImageNet's development kit tells: the synset of each class number, and the validation images' classes."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsearch.errors import DataError

META, GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Devkit:
    """ImageNet's own numbers, which are neither timm's nor Caffe's.

    Attributes:
        synsets: by the number (1 to 1000) that the ground truth uses.
        ground_truth: the number of each validation image, in the order of their names.
    """

    synsets: dict[int, str]
    ground_truth: tuple[int, ...]


def read_devkit(name: str, path: Path) -> Devkit:
    """The content of ILSVRC2012_devkit_t12.tar.gz.

    Args:
        name: of the file, for messages.
        path: of the file.

    Raises:
        DataError: it is damaged, or lacks one of the two files, or they contradict each other.
    """
    meta, truth = _read_members(name, path)
    try:
        synsets = _leaf_synsets(meta)
        numbers = tuple(int(line) for line in truth.split())
    except Exception as error:  # scipy raises what its readers stumble over: ValueError, TypeError, KeyError, …
        raise DataError(f"{META} or {GROUND_TRUTH} in {name} cannot be read: {error}. Fetch it again.") from error
    if unknown := sorted(set(numbers) - set(synsets)):
        raise DataError(f"The ground truth in {name} says class {unknown[0]}, which its {META} does not know.")
    return Devkit(synsets=synsets, ground_truth=numbers)


def _read_members(name: str, path: Path) -> tuple[bytes, bytes]:
    wanted: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                for end in (META, GROUND_TRUTH):
                    if member.isfile() and member.name.endswith(end):
                        file = tar.extractfile(member)
                        assert file is not None  # a regular file
                        wanted[end] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{name} cannot be read as a tar: {error}. Fetch it again.") from error
    if lacking := [end for end in (META, GROUND_TRUTH) if end not in wanted]:
        raise DataError(f"{name} does not hold {' and '.join(lacking)}; it is not ImageNet's development kit of 2012.")
    return wanted[META], wanted[GROUND_TRUTH]


def _leaf_synsets(meta: bytes) -> dict[int, str]:
    """The synsets that have images: those without children in WordNet's tree."""
    from scipy.io import loadmat

    rows: Any = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}

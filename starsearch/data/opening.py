"""`open_data`: from what the user wrote to a checked `DataSet`. All but the digits is read by timm."""

from __future__ import annotations

from pathlib import Path

from starsearch.data.dataset import CACHE_LIMIT_BYTES, DataSet
from starsearch.data.digits import open_digits
from starsearch.data.files import open_folder, open_tars
from starsearch.data.named import open_named
from starsearch.errors import DataError, did_you_mean

TIMM_PREFIXES = ("torch", "hfds", "hfids", "tfds", "wds")
_FORMS = (
    "data is 'digits', a folder with train/ and validation/ (or val/) of class folders, a folder with train.tar and "
    f"validation.tar, or a timm data-set name ({', '.join(f'{prefix}/…' for prefix in TIMM_PREFIXES)})"
)


def open_data(data: str, *, cache_limit_bytes: int = CACHE_LIMIT_BYTES) -> DataSet:
    """The data set that `data` names, with its classes and counts; no image is decoded yet.

    Args:
        data: "digits"; a folder with train/ and validation/ (or val/) of class folders; a folder with train.tar and
            validation.tar; or a timm data-set name as "torch/cifar10" or "hfds/uoft-cs/cifar10", after which
            "@FOLDER" may say where it lies or shall lie.
        cache_limit_bytes: up to which a split, decoded at the resolution it is used at, is kept in memory.

    Raises:
        DataError: there is no such data set, or it breaks a rule: a class folder is empty, training and validation
            have other classes, there are no images.
    """
    if data == "digits":
        return open_digits(cache_limit_bytes=cache_limit_bytes)
    path = Path(data).expanduser()
    if path.is_dir():  # whole: a worker of a cluster has another working folder
        return _open_path(path.resolve(), cache_limit_bytes)
    prefix, slash, _ = data.partition("/")
    if slash and prefix.lower() in TIMM_PREFIXES:
        return open_named(data, cache_limit_bytes=cache_limit_bytes)
    if path.exists():
        raise DataError(f"{data} is a file; {_FORMS}.")
    raise DataError(f"There is no data set {data!r}.{did_you_mean(data, ['digits'])} {_FORMS[0].upper()}{_FORMS[1:]}.")


def _open_path(path: Path, cache_limit_bytes: int) -> DataSet:
    """A folder of class folders or of tars, as its content says."""
    name = path.resolve().name
    for opener, suffix in ((open_folder, ""), (open_tars, ".tar")):
        train, validation = (
            _find(path, "train", suffix),
            _find(path, "validation", suffix) or _find(path, "val", suffix),
        )
        if train is not None and validation is not None:
            return opener(name, train, validation, cache_limit_bytes=cache_limit_bytes)
    there = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "nothing"
    raise DataError(
        f"The data folder {name!r} has neither train/ and validation/ (or val/) nor train.tar and validation.tar "
        f"(or val.tar); it holds {there}."
    )


def _find(path: Path, name: str, suffix: str) -> Path | None:
    entry = path / f"{name}{suffix}"
    found = entry.is_file() if suffix else entry.is_dir()
    return entry if found else None

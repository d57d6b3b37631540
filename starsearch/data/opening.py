"""`open_data`: from what the user wrote to a checked `DataSet`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from starsearch.data.dataset import CACHE_LIMIT_BYTES, DataSet, ValidationSet
from starsearch.data.digits import open_digits
from starsearch.data.files import find_folders, find_plain, find_tars, is_of_class_folders, list_folder
from starsearch.data.imagenet_tars import DEVKIT, TRAIN, VALIDATION, find_imagenet_tars
from starsearch.data.listing import Source, choose_orientation, named_by_training, open_source, split_of
from starsearch.data.named import TIMM_PREFIXES, open_named
from starsearch.data.names import split_of_folder
from starsearch.data.parquet import find_parquet
from starsearch.data.shards import find_shards
from starsearch.data.source import DataSource
from starsearch.errors import DataError, did_you_mean

_FORMS = (
    "data is 'digits'; a folder with train/ and validation/ (or val/, valid/, test/) of class folders; a folder with "
    f"train.tar and validation.tar; ImageNet's original {TRAIN}, {VALIDATION} and {DEVKIT} in a folder; a folder of "
    "WebDataset shards (NAME-train-0000.tar …, NAME-validation-0000.tar …); a folder of the Hugging Face hub's "
    "Parquet files (data/train-00000-of-00001.parquet …, data/validation-…); or a timm data-set name "
    f"({', '.join(f'{prefix}/…' for prefix in TIMM_PREFIXES)})"
)
# Class folders come first: other files may lie beside them. The shards' names are the least particular.
_FINDERS: tuple[Callable[[Path, DataSource], Source | None], ...] = (
    find_folders,
    find_tars,
    find_imagenet_tars,
    find_parquet,
    find_shards,
    find_plain,
)


def open_data(data: str, *, cache_limit_bytes: int = CACHE_LIMIT_BYTES) -> DataSet:
    """The data set that `data` names, with its classes and counts; no image is decoded yet.

    Args:
        data: "digits"; a folder with train/ and validation/ (or val/) of class folders; a folder with train.tar and
            validation.tar; with ImageNet's original tars; of WebDataset shards; of the Hugging Face hub's Parquet
            files; or a timm data-set name as "torch/cifar10" or "hfds/uoft-cs/cifar10", after which "@FOLDER" may
            say where it lies or shall lie.
        cache_limit_bytes: up to which a split, decoded at the resolution it is used at, is kept in memory.

    Raises:
        DataError: there is no such data set, or it breaks a rule: a class folder is empty, training and validation
            have other classes, there are no images.
    """
    asked = DataSource.parse(data)
    folder = _folder(asked.path)
    if folder is None:
        return _open_name(asked, cache_limit_bytes)
    source = _find_source(folder, asked, {"train", "validation"})
    if source is None:
        entries = sorted(entry.name for entry in folder.iterdir())
        there = ", ".join(entries[:6]) or "nothing"
        training = next((f"/{name}" for name in entries if split_of_folder(name) == "train"), "")
        advice, written = "", asked.path.rstrip("/")
        if training or is_of_class_folders(folder):
            advice = (
                "To hold out a fifth of each class for validation, name the folder that holds the class folders: "
                f"--data {written}{training} --validation-fraction 0.2, or data: "
                f"{written}{training}?validation_fraction=0.2 in a study file. "
            )
        raise DataError(
            f"The data folder {folder.name!r} has neither train/ and validation/ (or val/) nor train.tar and "
            f"validation.tar (or val.tar) nor other files of both splits; it holds {there}. "
            f"{advice}{_capitalized(_FORMS)}."
        )
    opened = open_source(source, cache_limit_bytes=cache_limit_bytes, orientation=asked.orientation)
    return replace(opened, name=asked.named(opened.name))


def open_validation(data: str) -> ValidationSet:
    """The validation images of a data set; training images need not be there.

    They are listed only where the validation images say no more than the numbers of their classes, for the names.

    Args:
        data: as `open_data` takes it, or a folder of class folders that are the validation images.

    Raises:
        DataError: there are no such images.
    """
    asked = DataSource.parse(data)
    folder = _folder(asked.path)
    source = None if folder is None else _find_source(folder, asked, {"validation"})
    if folder is not None and source is not None:
        listing = named_by_training(source, source.list_split("validation"))
    elif folder is not None and is_of_class_folders(folder):
        listing = list_folder(folder.name, folder, asked.classes)
    else:
        whole = open_data(data)  # a name; or a folder that is neither, which it refuses
        return ValidationSet(
            name=whole.name,
            classes=whole.classes,
            split=whole.validation,
            mean=whole.mean,
            std=whole.std,
            orientation=whole.orientation,
        )
    orientation = choose_orientation(listing.classes, asked.orientation)
    return ValidationSet(
        name=asked.named(folder.name),
        classes=listing.classes,
        split=split_of("validation", listing, orientation),
        numbered=listing.numbered,
        orientation=orientation,
    )


def _folder(path: str) -> Path | None:
    """The folder that `path` is, as a whole path: a worker of a cluster has another working folder."""
    folder = Path(path).expanduser()
    return folder.resolve() if folder.is_dir() else None


def _find_source(folder: Path, asked: DataSource, splits: set[str]) -> Source | None:
    """Return the first form that has these splits.

    Raises:
        DataError: an option is given that the form has no use for.
    """
    for find in _FINDERS:
        source = find(folder, asked)
        if source is None or not source.splits >= splits:
            continue
        if asked.validation_fraction is not None and find is not find_plain:
            raise DataError(
                f"validation_fraction splits class folders that have no splits; {folder.name!r} has its own. "
                "Leave it out."
            )
        if asked.classes is not None and find not in (find_folders, find_tars, find_plain):
            raise DataError(
                f"classes says which of nested folders is the class; {folder.name!r} has none. Leave it out."
            )
        return source
    return None


def _open_name(asked: DataSource, cache_limit_bytes: int) -> DataSet:
    data = asked.path
    for option in ("validation_fraction", "classes"):
        if getattr(asked, option) is not None:
            raise DataError(f"{option} says how a folder is read; {data!r} is none.")
    if data == "digits":
        return open_digits(cache_limit_bytes=cache_limit_bytes)
    prefix, slash, _ = data.partition("/")
    if slash and prefix.lower() in TIMM_PREFIXES:
        orientation = asked.orientation or "stored"
        opened = open_named(data, cache_limit_bytes=cache_limit_bytes, orientation=orientation)
        return replace(opened, name=asked.named(opened.name))
    if Path(data).expanduser().exists():
        raise DataError(f"{data} is a file; {_FORMS}.")
    raise DataError(f"There is no data set {data!r}.{did_you_mean(data, ['digits'])} {_capitalized(_FORMS)}.")


def _capitalized(words: str) -> str:
    return words[0].upper() + words[1:]

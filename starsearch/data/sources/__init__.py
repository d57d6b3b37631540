"""`open_data`: from what the user wrote to a checked `DataSet`.

Each module of this package reads one kind of data set. It has `FORM`, a line that says for people what it reads, and
`find(asked: DataSource) -> Source | None`, which returns the data set if it is of that kind. They are asked in the
order of their names; the first that has the wanted splits is taken.
"""

from __future__ import annotations

import importlib
import pkgutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from starsearch.data.dataset import (
    CACHE_LIMIT_BYTES,
    DataSet,
    Source,
    SplitName,
    fingerprint,
    join_splits,
    name_alike,
    orient,
)
from starsearch.data.names import split_of_folder
from starsearch.data.source import DataSource
from starsearch.errors import DataError, did_you_mean

_OPTIONS = {
    "validation_fraction": "splits class folders that have no splits of their own",
    "classes": "says which of nested folders names the class",
}


def open_data(data: str, *, cache_limit_bytes: int = CACHE_LIMIT_BYTES) -> DataSet:
    """Return the data set that `data` names, with its classes and counts; no image is decoded yet.

    Args:
        data: "digits", a folder or a timm data-set name such as "torch/cifar10", with options as `DataSource` takes
            them; `forms` says what a folder may hold.
        cache_limit_bytes: up to which a split, decoded at the resolution it is used at, is kept in memory.

    Raises:
        DataError: there is no such data set, or it breaks a rule: a class folder is empty, training and validation
            have different classes, there are no images.
    """
    asked = DataSource.parse(data)
    source = _find_source(asked, {"train", "validation"})
    train, validation = join_splits(source, source.splits["train"](), source.splits["validation"]())
    orientation = asked.orientation or source.orientation
    train, validation = orient(train, orientation), orient(validation, orientation)
    return DataSet(
        name=asked.named(source.name),
        train=train,
        validation=validation,
        fingerprint=fingerprint(train, validation),
        mean=source.mean,
        std=source.std,
        cache_limit_bytes=cache_limit_bytes,
    )


def open_validation(data: str) -> DataSet:
    """Return a data set with its validation images alone; training images need not be there.

    They are listed only where the validation images say no more than the numbers of their classes, for the names.

    Args:
        data: as `open_data` takes it, or a folder of class folders that are the validation images.
    """
    asked = DataSource.parse(data)
    source = _find_source(asked, {"validation"})
    validation = source.splits["validation"]()
    if validation.numbered and "train" in source.splits:
        with suppress(DataError):  # validation does without training images that cannot be listed
            validation = name_alike(validation, source.splits["train"]())
    validation = orient(validation, asked.orientation or source.orientation)
    return DataSet(
        name=asked.named(source.name),
        train=validation.part("train", validation.targets[:0]),
        validation=replace(validation, left_out={}),
        mean=source.mean,
        std=source.std,
    )


def forms() -> tuple[str, ...]:
    """Return what a data set may be, a line for each kind."""
    return tuple(module.FORM for module in _modules())


def _modules() -> list[Any]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


def _find_source(asked: DataSource, splits: set[SplitName]) -> Source:
    for module in _modules():
        source: Source | None = module.find(asked)
        if source is None or not source.splits.keys() >= splits:
            continue
        for option, what in _OPTIONS.items():
            if getattr(asked, option) is not None and option not in source.options:
                raise DataError(f"{option} {what}; {source.name!r} is read otherwise. Leave it out.")
        return source
    raise _refusal(asked)


def _refusal(asked: DataSource) -> DataError:
    known = f"Data is one of: {'; '.join(forms())}."
    if asked.folder is None:
        path = Path(asked.path).expanduser()
        known_names = ["digits", *(one.name for one in path.parent.glob("*") if one.is_dir())]
        what = "is a file." if path.exists() else f"names no data set.{did_you_mean(path.name, known_names)}"
        return DataError(f"{asked.path!r} {what} {known}")
    from starsearch.data.sources.unsplit import is_of_class_folders

    folder = asked.folder
    entries = sorted(entry.name for entry in folder.iterdir())
    training = next((f"/{name}" for name in entries if split_of_folder(name) == "train"), "")
    advice, written = "", asked.path.rstrip("/") + training
    if training or is_of_class_folders(folder):
        advice = (
            "To hold out a fifth of each class for validation, name the folder that holds the class folders: --data "
            f"{written} --validation-fraction 0.2, or data: {written}?validation_fraction=0.2 in a study file. "
        )
    return DataError(
        f"The data folder {folder.name!r} does not hold the images of both splits; it holds "
        f"{', '.join(entries[:6]) or 'nothing'}. {advice}{known}"
    )

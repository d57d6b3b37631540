"""`DataSource`: a data set and how it is read, in one text: "photos?validation_fraction=0.2&classes=outermost"."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from starsearch.errors import DataError, did_you_mean

ClassFolder = Literal["outermost", "innermost"]
Orientation = Literal["exif", "stored"]
_CHOICES = {"classes": get_args(ClassFolder), "orientation": get_args(Orientation)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A data set and the options it is read with. Its text travels with a study, a training and their records.

    Attributes:
        path: a folder, "digits" or a timm data-set name.
        validation_fraction: share of each class held out for validation, for class folders without splits.
        classes: which of nested folders names the class; None where there is no choice.
        orientation: "exif" turns photos as their EXIF tag says, "stored" leaves them; None follows the default.
    """

    path: str
    validation_fraction: float | None = None
    classes: ClassFolder | None = None
    orientation: Orientation | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the source described by a text, PATH or PATH?KEY=VALUE&KEY=VALUE."""
        path, _, options = text.partition("?")
        return cls(path=path, **dict(_parse_option(option) for option in options.split("&") if option))

    def __str__(self) -> str:
        options = ((field.name, getattr(self, field.name)) for field in fields(self)[1:])
        written = "&".join(f"{name}={value}" for name, value in options if value is not None)
        return f"{self.path}?{written}" if written else self.path

    @property
    def folder(self) -> Path | None:
        """The folder at `path`, made absolute because a worker of a cluster has another working folder."""
        folder = Path(self.path).expanduser()
        return folder.resolve() if folder.is_dir() else None

    def named(self, name: str) -> str:
        """Return the text with a name in place of the path, for records and messages."""
        return str(replace(self, path=name))

    def absolute(self) -> str:
        """Return the text with an absolute path if the data lies on this machine."""
        path = Path(self.path).expanduser()
        return self.named(str(path.resolve())) if path.exists() else str(self)


def _parse_option(option: str) -> tuple[str, Any]:
    key, _, value = option.partition("=")
    if key == "validation_fraction":
        try:
            fraction = float(value)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction < 1:
            raise DataError(f"validation_fraction is a number between 0 and 1, such as 0.2; got {value!r}.")
        return key, fraction
    if key not in _CHOICES:
        known = ("validation_fraction", *_CHOICES)
        raise DataError(
            f"Unknown option {key!r} of a data set.{did_you_mean(key, known)} Its options are {', '.join(known)}, "
            "written as DATA?OPTION=VALUE&OPTION=VALUE."
        )
    if value not in _CHOICES[key]:
        raise DataError(f"{key} is {' or '.join(_CHOICES[key])}; got {value!r}.")
    return key, value

"""The options by which commands say how a data set is read; they become part of its text (`DataSource`)."""

from __future__ import annotations

from typing import Annotated, Literal, overload

import typer

ValidationFraction = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.999,
        help="Share of each class that is held out for validation, of class folders that have no train/ and "
        "validation/. The draw is the same every time.",
    ),
]
Classes = Annotated[
    Literal["outermost", "innermost"] | None,
    typer.Option(help="Which of nested folders names the class: the first below the split, or the one of the image."),
]
Orientation = Annotated[
    Literal["exif", "stored"] | None,
    typer.Option(
        help="Turn photos as their EXIF tag says, or leave them as they are stored. Without it they are turned, but "
        "for ImageNet's classes and timm data-set names, whose protocol leaves them."
    ),
]


@overload
def with_options(data: str, **options: object) -> str: ...
@overload
def with_options(data: str | None, **options: object) -> str | None: ...
def with_options(data: str | None, **options: object) -> str | None:
    """Add what the options say to a data set's text, in place of what that says of them."""
    from dataclasses import replace
    from typing import Any

    from starsearch.data.source import DataSource
    from starsearch.errors import DataError

    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not changes:
        return data
    if data is None:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
        raise DataError(f"{named} changes how the data set of --data is read: give --data too.")
    return str(replace(DataSource.parse(data), **changes))

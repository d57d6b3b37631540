"""The options that several commands take, each worded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, overload

import typer

_DATA = typer.Option(
    help="A folder (train/, validation/ or val/), one of tars, of WebDataset shards or of Parquet files, or a timm "
    "data-set name. Without it: the study file's, else scikit-learn's digits, embedded."
)
_SEED = typer.Option(min=0, help="Seed of sampling, training and subsets.")

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder (studies/starnet) or NAME@STORAGE-URL.")]
Arch = Annotated[
    str,
    typer.Argument(
        metavar="ARCH", help="A name (starnet_s1), one line (starnet:embed_dim=24,…), a YAML file, or STUDY:TRIAL."
    ),
]
Space = Annotated[
    str, typer.Option(metavar="SPACE.yaml", help="Networks are drawn from it: a file, or a shipped space's name.")
]
Data = Annotated[str, _DATA]
OptionalData = Annotated[str | None, _DATA]
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
Runner = Annotated[
    str | None,
    typer.Option(
        help="Where trials run: a runner file, or a shipped one's name (local, ray). Without it: the Ray cluster at "
        "RAY_ADDRESS if that is set, else this machine."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder in which study folders are made.")]
Name = Annotated[
    str | None,
    typer.Option(help="Name of the study. Without it: the file's stem, or the folder of a study.yaml."),
]
Seed = Annotated[int, _SEED]
OptionalSeed = Annotated[int | None, _SEED]
Storage = Annotated[str | None, typer.Option(help="Optuna storage URL. Without it: study.db in the study's folder.")]
Budget = Annotated[
    str | None, typer.Option("--time-budget", help="Start no new trial after this long: 90s, 30m, 2h, 1h30m.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one value of the file: search.trials=4, fidelities.proxy.epochs=1; of the runner's: "
        "runner.workers=2. May be given several times.",
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, max=10_000, help="Epochs of a whole training, not the recipe's.")]
StemStride = Annotated[
    int | None, typer.Option(min=1, max=2, help="1 for images of 32 px and the like. Without it: the trial's, else 2.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=256, help="Processes that decode images. Without it: one a core, at most 8."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@overload
def with_options(data: str, **options: object) -> str: ...
@overload
def with_options(data: str | None, **options: object) -> str | None: ...
def with_options(data: str | None, **options: object) -> str | None:
    """Return a data set's text with what the options say of how it is read (`DataSource`)."""
    from starsearch.data.source import DataSource
    from starsearch.errors import DataError

    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not changes:
        return data
    if data is None:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
        raise DataError(f"{named} changes how the data set of --data is read: give --data too.")
    return str(replace(DataSource.parse(data), **changes))

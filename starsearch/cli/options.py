"""The options that several commands take, each worded once."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from starsearch.errors import SpecError
from starsearch.resolution import Between, Resolution

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
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="FILE_OR_NETWORK",
        help="Weights to begin with: a file (.safetensors, .pth), a training's or an export's folder, STUDY:TRIAL, "
        "or starnet_s1 … as published. Of another network of the family, layers are sliced or repeated; of other "
        "classes, the head is new.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def pixels(words: str, *, low: int = 8, high: int = 4096) -> Any:
    """Return the option of a resolution, read by `Between`."""

    def read(text: str) -> Resolution:
        try:
            return Between(low, high)(text)
        except SpecError as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option(parser=read, metavar="224|192x320", help=words)


_DATA_OPTIONS: dict[str, Any] = {
    "validation_fraction": Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Share of each class that is held out for validation, of class folders that have no train/ and "
            "validation/. The draw is the same every time.",
        ),
    ],
    "classes": Annotated[
        Literal["outermost", "innermost"] | None,
        typer.Option(
            help="Which of nested folders names the class: the first below the split, or the one of the image."
        ),
    ],
    "orientation": Annotated[
        Literal["exif", "stored"] | None,
        typer.Option(
            help="Turn photos as their EXIF tag says, or leave them as they are stored. Without it they are turned, "
            "but for ImageNet's classes and timm data-set names, whose protocol leaves them."
        ),
    ],
}


def milliseconds(text: str) -> float:
    """Return the number of "5ms" or "0.8"."""
    from starsearch.errors import StudyError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:ms)?", text.strip())
    if found is None or not float(found[1]):
        raise StudyError(f"A latency is written as 5ms or 0.8ms; got {text!r}.")
    return float(found[1])


def takes_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with `data` the options of how that is read; it is called with their text (`DataSource`)."""
    signature = inspect.signature(command, eval_str=True)
    shown = [one.replace(kind=one.KEYWORD_ONLY) for one in signature.parameters.values()]
    at = 1 + list(signature.parameters).index("data")
    for name, form in reversed(_DATA_OPTIONS.items()):
        shown.insert(at, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=form))

    @functools.wraps(command)
    def called(**options: Any) -> None:
        from starsearch.data.source import DataSource
        from starsearch.errors import DataError

        changes = {name: found for name in _DATA_OPTIONS if (found := options.pop(name)) is not None}
        if changes and options["data"] is None:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
            raise DataError(f"{named} changes how the data set of --data is read: give --data too.")
        if changes:
            options["data"] = str(replace(DataSource.parse(options["data"]), **changes))
        command(**options)

    called.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return called

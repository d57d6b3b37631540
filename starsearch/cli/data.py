"""`starsearch data`: look at a data set before hours are spent on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from starsearch.cli.options import Classes, Json, Orientation, ValidationFraction, with_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from starsearch.api import DataCheck
    from starsearch.api.data_checking import SplitCheck

_ORIENTATIONS = {
    "exif": "photos turned as their EXIF says, transparency laid over white",
    "stored": "photos left as stored, whatever their EXIF says, transparency laid over white",
}
_MOST_NAMED = 10  # unreadable images of a split; JSON has all

app = typer.Typer(help="Look at a data set before hours are spent on it.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at a data set before hours are spent on it."""


@app.command()
def check(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="As --data of `starsearch run`: a folder (class folders, tars, ImageNet's original tars, WebDataset "
            "shards, Parquet files) or a timm data-set name.",
        ),
    ],
    validation_fraction: ValidationFraction = None,
    classes: Classes = None,
    orientation: Orientation = None,
    resolution: Annotated[int, typer.Option(min=8, max=1024, help="Of the training, in pixels.")] = 224,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that decode. Without it: one a core, at most 8.")
    ] = None,
    images_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Of the training, to judge whether decoding keeps up with it.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Images of each split that are read.")] = 300,
    json: Json = False,
) -> None:
    """Check classes, images a class, broken images of a sample, and how fast images are decoded.

    Examples:

        starsearch data check imagenet/

        starsearch data check imagenet/ --workers 16 --images-per-second 2400
    """
    from starsearch import api
    from starsearch.cli.live import bar
    from starsearch.cli.show import print_json
    from starsearch.errors import DataError

    with bar() as watch:
        found = api.check_data(
            with_options(data, validation_fraction=validation_fraction, classes=classes, orientation=orientation),
            resolution=resolution,
            workers=workers,
            images_per_second=images_per_second,
            samples=samples,
            watch=watch,
        )
    print_json(asdict(found)) if json else _print(found)
    if found.errors:
        raise DataError(" ".join(found.errors))


def _print(found: DataCheck) -> None:
    from rich.console import Console
    from rich.text import Text

    from starsearch.cli.show import facts_table
    from starsearch.data.names import suffixes_in_words

    console = Console(soft_wrap=True, highlight=False)
    table = facts_table()
    table.add_row("data", found.name)
    table.add_row("classes", found.classes)
    if found.left_out:
        table.add_row("left out", Text(f"{suffixes_in_words(found.left_out)}, which no training uses"))
    for name, split in (("training", found.train), ("validation", found.validation)):
        _add_split(table, name, split)
    speeds = {1: found.one_worker_images_per_second, found.workers: found.workers_images_per_second}
    told = ", ".join(f"{speed:,.0f} images/s by {workers}" for workers, speed in speeds.items())
    table.add_row("decoding", f"{told} {'worker' if found.workers == 1 else 'workers'}, at {found.resolution} px")
    if found.training_images_per_second is not None:
        wanted = f"{found.training_images_per_second:,.0f} images/s, for which {found.workers_needed} workers would do"
        table.add_row("training", wanted)
    table.add_row("pixels", _ORIENTATIONS[found.orientation])
    table.add_row("in both splits", _shared_in_words(found))
    console.print(table)
    _print_examples(console, found)
    for split in (found.train, found.validation):
        for name in split.unreadable[:_MOST_NAMED]:
            console.print(f"cannot be read: {name}", markup=False)
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, style="yellow")
    if not found.warnings and not found.errors:
        console.print("Nothing stands in the way of a training.")


def _print_examples(console: Console, found: DataCheck) -> None:
    """Print a line a class, so that a wrong reading of the folders shows."""
    *_, last = found.examples
    for name, files in found.examples.items():
        more = found.num_classes - len(found.examples)
        if name == last and more:
            console.print(f"… {more:,} more …")
        console.print(f"class {name}: {', '.join(files)}", markup=False)


def _add_split(table: Table, name: str, split: SplitCheck) -> None:
    least, median, most = split.images_a_class
    table.add_row(name, f"{split.num_images:,} images, {least:,} to {most:,} a class, {median:,g} in the median")
    read = f"{split.sampled - len(split.unreadable)} of {split.sampled} tried can be read"
    if split.shorter_side_px is not None:
        low, middle, high = split.shorter_side_px
        read += f"; shorter side {low:,} to {high:,} px, {middle:,g} in the median"
    if other := {mode: number for mode, number in split.modes.items() if mode not in ("L", "RGB")}:
        read += "; of other modes: " + ", ".join(f"{number} {mode}" for mode, number in other.items())
    table.add_row("", read)


def _shared_in_words(found: DataCheck) -> str:
    shared = found.shared
    if not shared.compared:
        return "not compared: so much would have to be read"
    words = f"{len(shared.names):,} of {shared.compared:,} validation images, compared byte for byte"
    return words + (f" with {shared.among:,} training images, a sample" if shared.is_sample else "")

"""`starsearch data`: look at a data set before hours are spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from starsearch.cli.options import Json, pixels, takes_data

if TYPE_CHECKING:
    from starsearch.api.data_checking import DataCheck
    from starsearch.data.decode_speed import SplitCheck

_ORIENTATIONS = {
    "exif": "photos turned as their EXIF says, transparency laid over white",
    "stored": "photos left as stored, whatever their EXIF says, transparency laid over white",
}
_MOST = 10  # unreadable images of a split; JSON has all

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at a data set before hours are spent on it."""


class _WithForms(TyperCommand):
    """A command whose help ends with what a data set may be, read from the sources when it is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from starsearch.data.sources import forms

        self.epilog = "\n\n".join(("DATA is one of", *(f"• {form}" for form in forms())))
        super().format_help(ctx, formatter)


@app.command(cls=_WithForms)
@takes_data
def check(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="As --data of `starsearch run`: a folder, 'digits' or a timm data-set name; see below.",
        ),
    ],
    resolution: Annotated[str, pixels("Of the training.", high=1024)] = "224",
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
    from starsearch.api.data_checking import check_data
    from starsearch.cli.live import bar
    from starsearch.cli.show import print_json
    from starsearch.errors import DataError

    with bar() as watch:
        found = check_data(
            data,
            resolution=resolution,
            workers=workers,
            images_per_second=images_per_second,
            samples=samples,
            watch=watch,
        )
    print_json(found) if json else _print(found)
    if found.errors:
        raise DataError(" ".join(found.errors))


@app.command(cls=_WithForms)
@takes_data
def pack(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As --data of `starsearch run`; see below.")],
    resolution: Annotated[int, typer.Option(min=8, max=1024, help="Of the packed images (squares), in pixels.")],
    out: Annotated[Path, typer.Option(help="The file.", dir_okay=False)],
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that decode. Without it: one a core, at most 8.")
    ] = None,
) -> None:
    """Decode a data set once, at one resolution, into a file that trainings take as --data.

    A pack that was cut off goes on by the same command. Trainings of all processes share the file in memory, at its
    resolution or lower ones. Random-resized crops are taken from the square in the middle of each image.

    Example:

        starsearch data pack imagenet/ --resolution 64 --out imagenet-64.pack
    """
    from starsearch.cli.live import bar
    from starsearch.cli.show import say
    from starsearch.data import open_data
    from starsearch.data.sources import packed
    from starsearch.progress import Progress, follow

    with bar() as watch:
        source = open_data(data)
        steps = packed.pack(source, out, resolution=resolution, workers=workers)
        train, validation = follow(steps, lambda done: watch(Progress(fraction=done, stage="packing")))
    size = out.stat().st_size
    left_out = source.num_train + source.num_validation - train - validation
    say(
        f"{out}: {train:,} training and {validation:,} validation images of {resolution} px, {size / 1e6:,.1f} MB"
        f"{f'; {left_out:,} that cannot be read are left out' if left_out else ''}."
    )


def _print(found: DataCheck) -> None:
    from starsearch.cli.show import print_facts, say
    from starsearch.data.names import suffixes_in_words

    speeds = {1: found.one_worker_images_per_second, found.workers: found.workers_images_per_second}
    told = ", ".join(f"{speed:,.0f} images/s by {workers}" for workers, speed in speeds.items())
    wanted, shared = found.training_images_per_second, found.shared
    print_facts(
        {
            "data": found.name,
            "classes": found.classes,
            "left out": f"{suffixes_in_words(found.left_out)}, which no training uses" if found.left_out else "",
            "training": _split_in_words(found.train),
            "validation": _split_in_words(found.validation),
            "decoding": f"{told} {'worker' if found.workers == 1 else 'workers'}, at {found.resolution} px",
            "training speed": f"{wanted:,.0f} images/s: {found.workers_needed} workers would do" if wanted else "",
            "pixels": _ORIENTATIONS[found.orientation],
            "in both splits": f"{len(shared.names):,} of {shared.compared:,} validation images, compared byte for byte"
            + (f" with {shared.among:,} training images, a sample" if shared.is_sample else "")
            if shared.compared
            else "not compared: so much would have to be read",
        }
    )
    *_, last = found.examples
    for name, files in found.examples.items():
        if name == last and (more := found.num_classes - len(found.examples)):
            say(f"… {more:,} more …")
        say(f"class {name}: {', '.join(files)}")
    say(*(f"cannot be read: {name}" for split in (found.train, found.validation) for name in split.unreadable[:_MOST]))
    say(*(f"warning: {warning}" for warning in found.warnings), style="yellow")
    if not found.warnings and not found.errors:
        say("Nothing stands in the way of a training.")


def _split_in_words(split: SplitCheck) -> str:
    least, median, most = split.images_a_class
    words = f"{split.num_images:,} images, {least:,} to {most:,} a class, {median:,g} in the median\n"
    broken = f"{len(split.unreadable):,} cannot be read" if split.unreadable else "all can be read"
    words += f"{split.sampled:,} of {split.num_images:,} tried, {broken}"
    if split.sampled < split.num_images:
        words += "; --samples N tries more"
    if split.shorter_side_px is not None:
        low, middle, high = split.shorter_side_px
        words += f"; shorter side {low:,} to {high:,} px, {middle:,g} in the median"
    if other := {mode: number for mode, number in split.modes.items() if mode != "RGB"}:
        words += "; of other modes than RGB: " + ", ".join(f"{number} {mode}" for mode, number in other.items())
    return words

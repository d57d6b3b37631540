"""`starsearch reproduce`: the paper's tables, figures and claims, rerun."""

from __future__ import annotations

from functools import partial
from math import isnan
from pathlib import Path
from typing import Annotated, Literal

import typer

from starsearch.cli.options import OptionalData


def reproduce(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="table2, figure2, section3 …, or all; a wrong name lists them.")
    ],
    data: OptionalData = None,
    scale: Annotated[
        Literal["small", "paper"],
        typer.Option(
            help="small: CIFAR-10, a minute or two a network on a core. paper: ImageNet by the paper's recipe."
        ),
    ] = "small",
    seeds: Annotated[int, typer.Option(min=1, help="Of each training; three or more where an order is claimed.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training, in place of the scale's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of tables, pictures and README.md.")] = Path("studies/paper"),
) -> None:
    """Rerun parts of "Rewrite the Stars", and print what is found beside what is published.

    Trainings are kept as they end: the same command goes on where it was stopped.

    Examples:

        starsearch reproduce section3 figure2 table5

        starsearch reproduce all --data cifar10/

        starsearch reproduce table7 --data imagenet/ --scale paper --seeds 1
    """
    from starsearch.api.reproducing import reproduce
    from starsearch.cli.live import bar
    from starsearch.cli.show import print_table, say, table

    with bar() as watch:
        found = reproduce(names, scale=scale, seeds=seeds, data=data, epochs=epochs, out=out, say=say, watch=watch)
    for name, one in found.items():
        print_table(table(one.rows, [(column, partial(_cell, column)) for column in one.rows.columns], title=name))
    say(f"Written: {out / 'README.md'}")


def _cell(column: str, row: dict[str, object]) -> str:
    value = row[column]
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.4g}"
    return str(value)

"""`starsearch bench`: make the table of StarBench."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from starsearch.cli.show import say

if TYPE_CHECKING:
    from starsearch.bench.making import Made

app = typer.Typer(help="StarBench: real trainings of networks of the shipped space, and searches replayed on them.")
_Folder = Annotated[Path, typer.Option(help="The table's folder.")]


@app.callback()
def bench() -> None:
    """StarBench: real trainings of networks of the shipped space, and searches replayed on them."""


@app.command()
def make(
    data: Annotated[
        str | None, typer.Option(help="CIFAR-10, in any form that `starsearch data check` reads; trainings need it.")
    ] = None,
    fidelity: Annotated[
        Literal["proxy", "long"],
        typer.Option(
            help="proxy: 3 epochs of 10,000 images, a minute or two a network on a core. long: 20 epochs of 50,000 "
            "images at stem stride 1, meant for a GPU."
        ),
    ] = "proxy",
    latency: Annotated[
        bool,
        typer.Option("--latency", help="Measure latencies instead, one thread, batch 1; nothing else should run."),
    ] = False,
    networks: Annotated[int, typer.Option(min=1, max=10_000, help="Networks the table is to have.")] = 160,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a training; without it torch's own.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0, help="Stop after so many minutes; the rest comes later.")
    ] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="A table made elsewhere, or its folder; may be given several times.")
    ] = None,
    out: _Folder = Path("studies/starbench"),
) -> None:
    """Train the networks of StarBench that its table lacks, or measure their latencies.

    The same command goes on where it was stopped: each row is kept as it ends.

    Examples:

        starsearch bench make --data cifar10/ --threads 1 --time-limit 60

        starsearch bench make --data cifar10/ --fidelity long

        starsearch bench make --latency --merge from-the-gpu/starbench.csv.xz
    """
    from starsearch.api.bench import make_bench

    table = make_bench(
        out,
        "latency" if latency else fidelity,
        data=data,
        networks=networks,
        threads=threads,
        time_limit_s=None if time_limit is None else 60 * time_limit,
        merge=merge or (),
        watch=_say_made,
    )
    say(f"Table: {table}")


def _say_made(made: Made) -> None:
    row, left, done = made.last, made.wanted - made.there, ""
    if row is not None:
        found = f"{row['latency_ms']:.3f} ms" if "latency_ms" in row else f"{row.get('top1_percent')} %"
        name = row.get("name", row["network"])
        done = f"{name}, seed {row['seed']}: {row.get('failed', found)} ({row['seconds']:.0f} s). "
    rest = f"{left} left" + (f", about {_in_words(made.seconds_left)}" if left and made.seconds_left else "")
    say(f"{done}{made.there} of {made.wanted} rows are there; {rest}.")


def _in_words(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"

"""`starsearch bench`: make the table of StarBench, replay searches on it, write it for other tools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from starsearch.cli.options import Json
from starsearch.cli.show import print_table, say
from starsearch.cli.show import table as table_of
from starsearch.errors import SpecError
from starsearch.progress import duration_text

if TYPE_CHECKING:
    from starsearch.bench.making import Made

app = typer.Typer()
_FOLDER = Path("studies/starbench")
_Folder = Annotated[Path, typer.Option(help="The table's folder.")]
_Fidelity = Annotated[Literal["proxy", "long"], typer.Option(help="Whose trainings are taken.")]


@app.callback()
def bench() -> None:
    """StarBench: real trainings of networks of the shipped space, and searches replayed on them."""


@app.command()
def make(
    data: Annotated[
        str | None, typer.Option(help="CIFAR-10, in any form that `starsearch data check` reads; trainings need it.")
    ] = None,
    fidelity: Annotated[
        Literal["quick", "proxy", "medium", "long"] | None,
        typer.Option(
            help="proxy (without it): 3 epochs of 10,000 images, a minute or two a network on a core. quick: 1 epoch "
            "of 5,000, a fifth of that. medium: 6 epochs of 20,000 of the 16 networks that are trained by three seeds. "
            "long: 20 epochs of 50,000 images at stem stride 1, meant for a GPU."
        ),
    ] = None,
    latency: Annotated[
        bool,
        typer.Option("--latency", help="Measure latencies instead, one thread, batch 1; nothing else should run."),
    ] = False,
    signals: Annotated[bool, typer.Option("--signals", help="Read signals of untrained networks instead.")] = False,
    networks: Annotated[int, typer.Option(min=1, max=10_000, help="Networks the table is to have.")] = 160,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a training; without it torch's own.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0, help="Stop after so many minutes; the rest comes later.")
    ] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            help="A table made elsewhere, or its folder; may be given several times. Without --data, --fidelity, "
            "--latency and --signals nothing else is done."
        ),
    ] = None,
    out: _Folder = _FOLDER,
) -> None:
    """Train the networks of StarBench that its table lacks, measure their latencies, or read their signals.

    The same command goes on where it was stopped: each row is kept as it ends.

    Examples:

        starsearch bench make --data cifar10/ --threads 1 --time-limit 60

        starsearch bench make --data cifar10/ --fidelity medium

        starsearch bench make --latency --merge from-the-gpu/starbench.csv.xz
    """
    from starsearch.api.bench import make_bench

    if sum(map(bool, (fidelity, latency, signals))) > 1:
        raise SpecError("--fidelity, --latency and --signals are made one after the other: give one of them.")
    only_merge = bool(merge) and not (data or fidelity or latency or signals)
    said: list[Made] = []

    def show(made: Made) -> None:
        said.append(made)
        _say_made(made)

    table = make_bench(
        out,
        None if only_merge else "latency" if latency else "signals" if signals else fidelity or "proxy",
        data=data,
        networks=networks,
        threads=threads,
        time_limit_s=None if time_limit is None else 60 * time_limit,
        merge=merge or (),
        watch=show,
    )
    if only_merge:
        say("Merged; no row was made: trainings need --data, latencies --latency.")
    elif said[-1].there < said[-1].wanted:
        say("The time limit leaves no room for the next row; the same command goes on.")
    say(f"Table: {table}")


@app.command()
def run(
    samplers: Annotated[
        str,
        typer.Option(
            help="Names separated by commas; tpe+halving is tpe with successive halving, gp:120 gives up after 120."
        ),
    ] = "auto,tpe,random",
    fidelity: _Fidelity = "proxy",
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each sampler.")] = 20,
    trials: Annotated[int, typer.Option(min=1, help="Candidates of each replay at most, beside the anchors.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Processes that replay.")] = 1,
    table: _Folder = _FOLDER,
    csv: Annotated[
        Path | None,
        typer.Option(help="Write each replay's outcome to this file as it ends; those that it has are not repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Replay searches on the table, in simulated time, until they have come as far as NSGA-II.

    The driver is the one of `starsearch run`; only the trainings are looked up. Anchors are known to all samplers.

    Examples:

        starsearch bench run --samplers auto,auto+halving,tpe,tpe+halving --csv replays.csv

        starsearch bench run --samplers gp:50 --seeds 3
    """
    from starsearch.api.bench import run_bench
    from starsearch.bench.replay import BASELINE, summarise

    def show(ended: int, wanted: int) -> None:
        say(f"{ended} of {wanted} replays", error=True)

    names = [name.strip() for name in samplers.split(",")]
    judge, outcomes = run_bench(
        table, names, fidelity=fidelity, seeds=seeds, trials=trials, workers=workers, csv=csv, watch=show
    )
    summary = summarise(outcomes)
    if json:
        typer.echo(summary.to_json(orient="records", indent=2))
        return
    columns: dict[str, Any] = {
        "Sampler": "{sampler}",
        "Replays": "{replays}",
        "Reached": lambda row: f"{row['reached']:.0%}",
        "Evaluations": lambda row: _interval(row, "evaluations", ".0f"),
        "Compute (h)": lambda row: _interval(row, "hours", ".2f"),
        "Ask (s)": "{ask_s:.2f}",
        "Slowest": "{slowest_ask_s:.2f}",
    }
    print_table(table_of(summary, columns, title=f"To the hypervolume of {BASELINE} after {trials}, at {fidelity}"))
    say(
        f"Evaluations and simulated compute until half of the replays have reached the hypervolume that {BASELINE} has "
        f"with the same seed after {trials}, with 90 % intervals; > where they gave up before. Anchors cost nothing. "
        "An ask counts the processor's seconds.",
        f"Trainings of {len(judge.networks)} networks are looked up. All others are estimated from them by a "
        f"regression (error {judge.error:.2f} points, by which each is drawn to depart from it; seeds differ by "
        f"{judge.noise:.2f}). The hypervolume is that of the values without the seed's noise.",
    )


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder of the blackbox.")],
    fidelity: _Fidelity = "proxy",
    table: _Folder = _FOLDER,
) -> None:
    """Write the table as a blackbox of Syne Tune, which its `deserialize` reads.

    OptunaHub's form needs no file: `starsearch.bench.serving.StarBenchProblem`.
    """
    from starsearch.bench.serving import write_syne_tune

    say(f"Blackbox: {write_syne_tune(table, fidelity, out)}")


def _interval(row: Mapping[str, Any], name: str, form: str) -> str:
    """Return a median with its interval; > where it was not reached."""
    middle, low, high = (
        format(row[key], form) if math.isfinite(row[key]) else ">" for key in (name, f"{name}_low", f"{name}_high")
    )
    return f"{middle} ({low}–{high})"


def _say_made(made: Made) -> None:
    row, left, done = made.last, made.wanted - made.there, ""
    if row is not None:
        units = {"latency_ms": "{:.3f} ms", "top1_percent": "{:.2f} %"}
        found = next((text.format(row[name]) for name, text in units.items() if name in row), "signals read")
        name = row.get("name", row["network"])
        done = f"{name}, seed {row['seed']}: {row.get('failed', found)} ({row['seconds']:.0f} s). "
    rest = f"{left} left" + (f", about {duration_text(made.seconds_left)}" if made.seconds_left > 0 else "")
    say(f"{done}{made.there} of {made.wanted} rows are there; {rest}.")

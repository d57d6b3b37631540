"""The commands, as DESIGN names them for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from starsearch.cli import (
    bench,
    doctor,
    export,
    latency,
    peers,
    planning,
    reproducing,
    schema,
    shipping,
    signals,
    space,
    training,
    tuning,
    validation,
)
from starsearch.cli import data as data_commands
from starsearch.cli.options import (
    Budget,
    Json,
    Name,
    OptionalData,
    OptionalSeed,
    Out,
    Runner,
    Set,
    Storage,
    Study,
    milliseconds,
    takes_data,
)
from starsearch.cli.show import print_json

SEARCH, NETWORKS, BEFORE, SCIENCE = "Search", "Networks", "Before a search", "Star operation and search methods"

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")]

app = typer.Typer(
    name="starsearch",
    help="Search the star-operation design space (StarNet) for the best small network for your device.",
    epilog="Begin with `starsearch run starnet`, then look at `starsearch front studies/starnet`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def starsearch(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Search the star-operation design space (StarNet) for the best small network for your device."""
    if version:
        from starsearch import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command(rich_help_panel=SEARCH)
@takes_data
def run(
    file: Annotated[
        str, typer.Argument(metavar="SPACE_OR_STUDY.yaml", help="A space or study file, or a shipped space's name.")
    ],
    data: OptionalData = None,
    accuracy: Annotated[
        Literal["trained", "published"],
        typer.Option(
            help="Train candidates on the data, or train nothing and estimate their ImageNet top-1 from what is "
            "published."
        ),
    ] = "trained",
    runner: Runner = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Finished searched trials to reach in all; anchors are not counted.")
    ] = None,
    time_budget: Budget = None,
    storage: Storage = None,
    name: Name = None,
    out: Out = Path("studies"),
    seed: OptionalSeed = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="MS",
            help="Limit of latency_ms, as 5ms; a searched network that breaks it is not trained, published ones "
            "(anchors) are all the same. As --set constraints.latency_ms.max=5.",
        ),
    ] = None,
    settings: Set = None,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STUDY", help="Another study or a table of trainings on this data; auto learns from it."
        ),
    ] = None,
) -> None:
    """Search a space: train proxies, measure latency, keep the Pareto front.

    The same command resumes a study that was interrupted, or that is to have more trials.
    Ctrl-C ends it cleanly.

    Examples:

        starsearch run starnet

        starsearch run spaces/starnet.yaml --data imagenet/ --trials 100

        starsearch run studies/cifar10/study.yaml --data cifar10/ --time-budget 2h

        starsearch run starnet --max-latency 5ms

        starsearch run starnet --runner ray

        starsearch run starnet --accuracy published
    """
    from starsearch.api.run import parse_duration, run
    from starsearch.cli.live import LiveView
    from starsearch.cli.show import say
    from starsearch.cli.studies import print_end, print_front
    from starsearch.errors import StudyError
    from starsearch.objective import IMAGENET_TOP1
    from starsearch.report.summary import count_words

    limit = [] if max_latency is None else [f"constraints.latency_ms.max={milliseconds(max_latency):g}"]
    outcome = run(
        file,
        out=out,
        data=data,
        accuracy=accuracy,
        runner=runner,
        trials=trials,
        time_budget_s=None if time_budget is None else parse_duration(time_budget),
        storage=storage,
        name=name,
        seed=seed,
        settings=[*(settings or ()), *limit],
        earlier=earlier,
        say=say,
        view=lambda spec, folder: LiveView(spec.objectives, spec.constraints, title=f"{spec.name} in {folder}"),
    )
    print_front(outcome.view, with_agreement=False)  # it was said as each fidelity ended
    print_end(outcome)
    found, ended = outcome.view, outcome.ended
    assert ended is not None
    if ended.why in ("complete", "space exhausted", "nothing feasible"):
        estimated = IMAGENET_TOP1 in found.spec.quantities  # without weights that one could export
        if (found.untrained_miss and ended.finished < ended.wanted) or (found.miss and estimated):
            tried = ", ".join(f"{count} {words}" for count, words in count_words(found.summary))
            raise StudyError(f"No network keeps the study's constraints: {tried}.")
        if not found.count("COMPLETE"):
            raise StudyError("No trial is complete: every candidate failed, with the reasons above.")


@app.command(rich_help_panel=SEARCH)
def status(study: Study, json: Json = False) -> None:
    """Say how far a study is: trials, failures with reasons, time, best values, and who works on it."""
    from starsearch.api.study import study_status
    from starsearch.cli.studies import print_status

    found = study_status(study)
    print_json(found) if json else print_status(found)


@app.command(rich_help_panel=SEARCH)
def front(study: Study, json: Json = False) -> None:
    """Print the Pareto front with the published networks among it."""
    from starsearch.api.study import load_study
    from starsearch.cli.studies import print_front
    from starsearch.report.table import to_json

    view = load_study(study).view
    typer.echo(to_json(view.front, view.summary)) if json else print_front(view)


@app.command(rich_help_panel=SEARCH)
def report(
    study: Study,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve report.html on this machine, following the run, until Ctrl-C.")
    ] = False,
    port: Port = 8080,
) -> None:
    """Write trials.csv, front.csv, front.png and report.html into the study's folder again, or serve the page live."""
    from starsearch.api.study import serve_report, write_study_report

    if serve:
        serve_report(study, port=port, say=typer.echo)
    else:
        for path in write_study_report(study):
            typer.echo(path)


@app.command(rich_help_panel=SEARCH)
def dashboard(study: Study, port: Port = 8080) -> None:
    """Open the study's database in optuna-dashboard, on this machine only. Ctrl-C ends it."""
    from starsearch.api.study import serve_dashboard

    serve_dashboard(study, port=port, say=typer.echo)


app.command(rich_help_panel=NETWORKS)(training.train)
app.command(rich_help_panel=NETWORKS)(validation.validate)
app.command(rich_help_panel=NETWORKS)(export.export)
app.command(rich_help_panel=NETWORKS)(shipping.ship)
app.command(rich_help_panel=NETWORKS)(tuning.tune)
app.add_typer(space.app, name="space", rich_help_panel=BEFORE)
app.add_typer(data_commands.app, name="data", rich_help_panel=BEFORE)
app.add_typer(latency.app, name="latency", rich_help_panel=BEFORE)
app.command(rich_help_panel=BEFORE)(peers.peers)
app.command(rich_help_panel=BEFORE)(planning.plan)
app.command(rich_help_panel=BEFORE)(schema.schema)
app.command(rich_help_panel=BEFORE)(doctor.doctor)
app.command(rich_help_panel=SCIENCE)(reproducing.reproduce)
app.command(rich_help_panel=SCIENCE)(signals.signals)
app.add_typer(bench.app, name="bench", rich_help_panel=SCIENCE)

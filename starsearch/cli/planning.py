"""`starsearch plan`: which proxy can be trusted, and what the study will cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starsearch.cli.options import Classes, Orientation, ValidationFraction, with_options
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    from starsearch.api.planning import Plan
    from starsearch.report.agreement import Tau


def plan(
    file: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="A study file; its last fidelity is the truth.")],
    data: Annotated[str | None, typer.Option(help="As of `run`, in place of the file's.")] = None,
    validation_fraction: ValidationFraction = None,
    classes: Classes = None,
    orientation: Orientation = None,
    pilot: Annotated[int, typer.Option(min=0, help="Random candidates that are trained, beside the anchors.")] = 12,
    tau: Annotated[float, typer.Option(min=-1, max=1, help="Kendall's τ a proxy shall have with the truth.")] = 0.7,
    top: Annotated[str | None, typer.Option(help="The fidelity that counts as the truth; without it the last.")] = None,
    resolutions: Annotated[str | None, typer.Option(help="Proxies to try, in pixels: 32,64.")] = None,
    epochs: Annotated[str | None, typer.Option(help="Proxies to try: 1,2,4.")] = None,
    samples: Annotated[str | None, typer.Option(help="Proxies to try, training images: 2000,8000.")] = None,
    runner: Annotated[str | None, typer.Option(help="Where trainings run, as of `run`.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time of the cluster that the cost is reckoned for.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the study; the pilot's folder is NAME-plan.")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the pilot's folder is made.")] = Path("studies"),
    seed: Annotated[int | None, typer.Option(min=0, help="Of the pilot and its trainings.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="Begin no training after this long: 90s, 2h.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As of `run`.")] = None,
) -> None:
    """Find the cheapest proxy that ranks networks as the full training does, and what the study will cost.

    A pilot of a few candidates is trained in full and by each proxy of a grid: resolution × epochs × samples.
    The same command goes on with a pilot that was interrupted.

    Examples:

        starsearch plan studies/cifar10/study.yaml --data cifar10/ --epochs 1,3 --samples 2000,10000

        starsearch plan studies/imagenet/study.yaml --data imagenet/ --top short --workers 8
    """
    from starsearch import api
    from starsearch.api.pilot import Grid
    from starsearch.api.running import parse_duration
    from starsearch.cli.live import LiveView

    grid = Grid(
        resolutions=_numbers("--resolutions", resolutions),
        epochs=_numbers("--epochs", epochs),
        samples=_numbers("--samples", samples),
    )
    found = api.plan_study(
        file,
        data=with_options(data, validation_fraction=validation_fraction, classes=classes, orientation=orientation),
        pilot=pilot,
        tau=tau,
        top=top,
        grid=grid,
        runner=runner,
        workers=workers,
        out=out,
        name=name,
        seed=seed,
        time_budget_s=None if time_budget is None else parse_duration(time_budget),
        settings=settings or (),
        view=lambda spec, folder: LiveView(spec.objectives, title=f"{spec.fidelity.name}, pilot in {folder}"),
    )
    _print(found, pilot)


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    from starsearch.errors import SpecError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SpecError(f"{option} takes whole numbers from 1, separated by commas: 1,2,4; got {text!r}.")
    return tuple(int(part) for part in parts)


def _print(found: Plan, pilot: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=f"Proxies against {found.top}, {found.pilot} candidates", title_justify="left", box=None)
    for heading in (
        "Resolution",
        "Epochs",
        "Images",
        "Seconds",
        "τ overall",
        "Equal cost",
        "Best few",
        "Parameters alone",
    ):
        table.add_column(heading, justify="right")
    for one in found.options:
        fidelity, taus = one.fidelity, one.agreement
        table.add_row(
            f"{fidelity.resolution}",
            f"{fidelity.epochs}",
            f"{fidelity.samples:,}{' *' if one.is_own else ''}",
            f"{one.seconds:.1f}",
            _with_interval(taus.overall),
            _value(taus.in_bands),
            _value(taus.best_tenth),
            _value(taus.num_params),
            style="bold" if one is found.chosen else "",
        )
    console.print(table)
    if any(one.is_own for one in found.options):
        console.print("* the study's own proxy")
    for line in _advice(found, pilot):
        console.print(line, soft_wrap=True)


def _advice(found: Plan, pilot: int) -> list[str]:
    """What to do, what it costs, where the pilot lies."""
    from starsearch.report.agreement import candidates_to_tell

    lines = []
    missing = candidates_to_tell(found.tau) - found.pilot
    more = f"{missing} more candidates (--pilot {pilot + missing}) tell it to within about 0.2."
    taus = [one.agreement.overall for one in found.options]
    if not found.is_complete:
        lines.append("The pilot is not complete: the same command goes on with it, and the figures may change.")
    if found.chosen is not None:
        low = found.chosen.agreement.overall.low
        lines.append(f"Cheapest proxy with τ ≥ {found.tau:g}; in the study file, as the first of its fidelities:")
        lines.append(f"    - {{name: proxy, {_fields(found.chosen.fidelity)}}}")
        if low < found.tau:
            wider = more if missing > 0 else "a larger --pilot would tell more surely."
            lines.append(f"Its τ may be as low as {low:.2f} (95 %): {wider}")
    elif missing > 0 and any(not tau.is_known or tau.high >= found.tau for tau in taus):
        lines.append(
            f"{found.pilot} candidates cannot tell whether a proxy reaches τ {found.tau:g} (95 % intervals). {more}"
        )
    elif found.options:
        lines.append(f"No proxy of the grid reaches τ {found.tau:g}: give dearer ones, or accept a lower --tau.")
    if found.costs:
        parts = ", ".join(
            f"{cost.name} {cost.trainings:.3g} × {cost.seconds:,.0f} s{'' if cost.is_measured else ' (predicted)'}"
            for cost in found.costs
        )
        lines.append(f"The study: {parts}.")
        hours = f"{found.gpu_hours:,.1f} GPU-hours" if found.gpu_hours else f"{found.hours:,.1f} worker-hours"
        days = found.days
        at_once = "how many run at a time? Give --workers" if days is None else f"{days:,.2f} days with {found.workers}"
        lines.append(f"Together {hours}; {at_once}{' at a time' if days is not None else ''}.")
    return [*lines, f"Pilot: {found.folder} (plan.csv)"]


def _fields(fidelity: Fidelity) -> str:
    """What a study file says of a fidelity: all that is not as by default, its recipe always."""
    default = Fidelity()
    said = {name: getattr(fidelity, name) for name in Fidelity.__slots__ if name not in ("name", "recipe")}
    changed = {name: value for name, value in said.items() if value != getattr(default, name) or name == "resolution"}
    return ", ".join(f"{name}: {value}" for name, value in {**changed, "recipe": fidelity.recipe}.items())


def _value(tau: Tau) -> str:
    return f"{tau.value:.2f}" if tau.is_known else "–"


def _with_interval(tau: Tau) -> str:
    return f"{tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f})" if tau.is_known else "–"

"""`starsearch plan`: which proxy can be trusted, and what the study will cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starsearch.cli.options import Budget, OptionalData, OptionalSeed, Out, Runner, Set, takes_data
from starsearch.cli.show import figure, print_table, say, table

if TYPE_CHECKING:
    from starsearch.api.planning import Plan
    from starsearch.recipe import Fidelity


@takes_data
def plan(
    file: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="A study file; its last fidelity is the truth.")],
    data: OptionalData = None,
    pilot: Annotated[int, typer.Option(min=0, help="Random candidates that are trained, beside the anchors.")] = 12,
    tau: Annotated[float, typer.Option(min=-1, max=1, help="Kendall's τ a proxy must reach against the truth.")] = 0.7,
    top: Annotated[str | None, typer.Option(help="The fidelity that counts as the truth; without it the last.")] = None,
    resolutions: Annotated[str | None, typer.Option(help="Proxies to try: 32,64 or 24x48,48x96.")] = None,
    epochs: Annotated[str | None, typer.Option(help="Proxies to try: 1,2,4.")] = None,
    samples: Annotated[str | None, typer.Option(help="Proxies to try, training images: 2000,8000.")] = None,
    recipes: Annotated[
        str | None, typer.Option(help="Proxies to try, shipped recipes or files: proxy,imagenet-proxy.")
    ] = None,
    runner: Runner = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trainings at a time of the cluster that the cost is computed for.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; the pilot's folder is NAME-plan.")] = None,
    out: Out = Path("studies"),
    seed: OptionalSeed = None,
    time_budget: Budget = None,
    settings: Set = None,
) -> None:
    """Find the cheapest proxy that ranks networks as the full training does, and what the study will cost.

    A pilot of a few candidates is trained in full and by each proxy of a grid: resolution × epochs × samples × recipes.
    The same command resumes a pilot that was interrupted.

    Examples:

        starsearch plan studies/cifar10/study.yaml --data cifar10/ --epochs 1,3 --samples 2000,10000

        starsearch plan studies/imagenet/study.yaml --data imagenet/ --top short --workers 8
    """
    from starsearch.api.planning import plan_study
    from starsearch.api.run import parse_duration
    from starsearch.cli.live import LiveView
    from starsearch.resolution import Between

    found = plan_study(
        file,
        data=data,
        pilot=pilot,
        tau=tau,
        top=top,
        resolutions=[Between(8, 1024)(one.strip()) for one in resolutions.split(",")] if resolutions else None,
        epochs=_numbers("--epochs", epochs),
        samples=_numbers("--samples", samples),
        recipes=[one.strip() for one in recipes.split(",") if one.strip()] if recipes else None,
        runner=runner,
        workers=workers,
        out=out,
        name=name,
        seed=seed,
        time_budget_s=None if time_budget is None else parse_duration(time_budget),
        settings=settings or (),
        view=lambda spec, folder: LiveView(spec.objectives, title=f"{spec.fidelity.name}, pilot in {folder}"),
    )
    columns: dict[str, Any] = {
        "Resolution": "{resolution}",
        "Epochs": "{epochs}",
        "Images": lambda row: f"{row['samples']:,}{' *' if row['own'] else ''}",
        "Recipe": "{recipe}",
        "Seconds": "{seconds:.1f}",
        "τ overall": lambda row: _with_interval(row["tau_overall"], row["tau_overall_low"], row["tau_overall_high"]),
        "Equal cost": lambda row: _with_interval(row["tau_in_bands"]),
        "Best few": lambda row: _with_interval(row["tau_best_tenth"]),
        "Parameters alone": lambda row: _with_interval(row["tau_num_params"]),
    }
    title = f"Proxies against {found.top}, {found.candidates} candidates"
    print_table(table(found.proxies, columns, title=title, left=0, style=lambda row: "bold" if row["chosen"] else ""))
    if found.proxies["own"].any():
        say("* the study's own proxy")
    say(*_advice(found, pilot, tau))


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    from starsearch.errors import SpecError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SpecError(f"{option} takes whole numbers from 1, separated by commas: 1,2,4; got {text!r}.")
    return tuple(int(part) for part in parts)


def _advice(found: Plan, pilot: int, tau: float) -> list[str]:
    """What to do, what it costs, where the pilot lies."""
    from starsearch.report.agreement import candidates_to_tell

    lines, proxies = [], found.proxies
    missing = candidates_to_tell(tau) - found.candidates
    more = f"{missing} more candidates (--pilot {pilot + missing}) tell it to within about 0.2."
    if not found.is_complete:
        lines.append("The pilot is not complete: the same command resumes it, and the figures may change.")
    if found.chosen is not None:
        low = proxies.loc[proxies["chosen"], "tau_overall_low"].item()
        lines.append(f"Cheapest proxy with τ ≥ {tau:g}; in the study file, as the first of its fidelities:")
        lines.append(f"    - {{name: proxy, {_fields(found.chosen)}}}")
        if low < tau:
            wider = more if missing > 0 else "a larger --pilot would tell it more precisely."
            lines.append(f"Its τ may be as low as {low:.2f} (95 %): {wider}")
    elif missing > 0 and len(proxies) and not (proxies["tau_overall_high"] < tau).all():
        lines.append(
            f"{found.candidates} candidates cannot tell whether a proxy reaches τ {tau:g} (95 % intervals). {more}"
        )
    elif len(proxies):
        lines.append(f"No proxy of the grid reaches τ {tau:g}: give more expensive ones, or accept a lower --tau.")
    if len(found.costs):
        parts = ", ".join(
            f"{cost.fidelity} {cost.trainings:.3g} × {cost.seconds:,.0f} s{'' if cost.is_measured else ' (predicted)'}"
            for cost in found.costs.itertuples()
        )
        days = f"{found.days:,.2f} days with {found.workers} at a time" if found.workers else "give --workers for days"
        lines.append(f"The study: {parts}. Together {found.hours:,.1f} hours of one worker; {days}.")
    return [*lines, f"Pilot: {found.folder} (plan.csv)"]


def _fields(fidelity: Fidelity) -> str:
    """What a study file says of a fidelity: all that is not as by default, its recipe always."""
    from starsearch.recipe import Fidelity

    default = Fidelity()
    said = {name: getattr(fidelity, name) for name in Fidelity.__slots__ if name not in ("name", "recipe")}
    changed = {name: value for name, value in said.items() if value != getattr(default, name) or name == "resolution"}
    return ", ".join(f"{name}: {value}" for name, value in {**changed, "recipe": fidelity.recipe}.items())


def _with_interval(tau: float, *interval: float) -> str:
    ends = f" ({figure(interval[0])} to {figure(interval[1])})" if interval and not math.isnan(tau) else ""
    return figure(tau) + ends

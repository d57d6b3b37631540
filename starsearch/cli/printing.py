"""What the reading commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from starsearch.cli.show import facts_table

if TYPE_CHECKING:
    from starsearch.api import Exported, FrontView


def print_front(view: FrontView, *, with_agreement: bool = True) -> None:
    """The front as a table; below it how far lower fidelities can be trusted (unless that was told), and failures."""
    from starsearch.api.reading import agreements
    from starsearch.report import (
        agreement_lines,
        anchor_recipe_note,
        architecture_lines,
        legend_lines,
        miss_lines,
        prediction_lines,
        render_failures,
        render_front,
    )

    console = Console()
    for lower in reversed(view.lower):
        console.print(
            f"At {_fidelity(lower)}: {lower.summary['complete']} trials, {lower.summary['on_front']} on its front."
        )
    if view.lower:
        console.print(f"At {_fidelity(view)}, the highest fidelity:")
    lines: list[str] = []
    if not view.front.empty:
        console.print(render_front(view.front, view.objectives))
        lines += [*architecture_lines(view.front), "", *legend_lines(view.front)]
    if view.knee is not None:
        lines += [f"Knee: trial {view.knee}.", *prediction_lines(view.summary.get("predictions", {}))]
    elif view.summary["miss"]:
        lines += miss_lines(view.summary["miss"])
    else:
        lines.append("No trial is complete yet, so there is no front.")
    if (note := anchor_recipe_note(view.trials)) is not None:
        lines.append(note)
    if foreign := view.summary["foreign"]:
        were = "trial was" if foreign == 1 else "trials were"
        lines.append(f"{foreign} {were} made or ended by another program: not counted, and left as they are.")
    lines += [line for one in (agreements(view) if with_agreement else ()) for line in agreement_lines(one)]
    for line in lines:  # an architecture is never broken: it can be copied
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    failures = view.trials[view.trials["state"] == "FAIL"]
    if not failures.empty:
        console.print(render_failures(failures))


def _fidelity(view: FrontView) -> str:
    return str(view.trials["fidelity"].iloc[0])


def print_front_json(view: FrontView) -> None:
    """The front and its summary as JSON."""
    from starsearch.report import to_json

    print(to_json(view.front, view.summary))


def print_status(found: Mapping[str, Any]) -> None:
    """One line a fact, then one a failure."""
    table = facts_table()
    for name, words in _status_facts(found).items():
        table.add_row(name, words)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for line in found.get("agreement", ()):
        console.print(line, markup=False)
    for failure in found["failures"]:
        console.print(
            f"trial {failure['trial']} failed: {failure['reason']}  ({failure['architecture']})", markup=False
        )


def _status_facts(found: Mapping[str, Any]) -> dict[str, str]:
    from starsearch.report import hypervolume_gain, miss_lines

    facts = {
        "study": found["study"],
        **({f"at {one['fidelity']}": _counts(one) for one in found.get("fidelities", ())}),
        "storage": found["storage"],
        f"at {found['fidelity']}" if found.get("fidelities") else "trials": _counts(found),
        "evaluated for": f"{found['seconds'] / 60:.0f} min",
        "on the front": f"{found['on_front']} trials"
        + (f", knee {found['knee']}" if found["knee"] is not None else ""),
    }
    for line in found["halving"]:
        what, _, told = line.partition(": ") if line.startswith("Successive") else ("epochs", "", line)
        facts[what.lower()] = told
    for name, best in (found["best"] or {}).items():
        spread = f" ± {best['spread']:.2g}" if best["spread"] is not None else ""
        facts[f"best {name}"] = f"{best['value']:.4g}{spread} (trial {best['number']})"
    if found["miss"]:
        facts["infeasible"] = " ".join(miss_lines(found["miss"]))
    if (gain := hypervolume_gain(found["hypervolume"])) is not None:
        facts["hypervolume"] = f"{found['hypervolume']['front']:.4g}, {gain:+.0f} % over the published networks alone"
    return facts | {"driver": found["driver"] or "none at work"}


def _counts(found: Mapping[str, Any]) -> str:
    """Trials by how they ended."""
    counts = ", ".join(f"{found[name]} {name}" for name in ("complete", "failed", "infeasible"))
    counts += f", {found['stopped']} stopped at a rung" if found["stopped"] else ""
    counts += f", {found['foreign']} foreign (of other programs)" if found["foreign"] else ""
    return f"{found['trials']}: {counts}" + (f", {len(found['running'])} unfinished" if found["running"] else "")


def print_space(found: Mapping[str, Any]) -> None:
    """Dimensions, counts, constraints, anchors."""
    console = Console()
    table = Table(title=f"{found['name']} ({found['family']}, {found['resolution']} px)", title_justify="left")
    table.add_column("Dimension")
    table.add_column("Values", overflow="fold")
    for name, words in {**found["dimensions"], **found["recipe"]}.items():
        table.add_row(name, words)
    console.print(table)
    console.print(f"Architectures: at most {found['num_architectures']:,}")
    counted = ", counted with 1000 classes" if found["constraints"] != "none" else ""
    console.print(
        f"Constraints:   {found['constraints']}{counted} ({found['allowed_percent']:.0f} % of random ones allowed)"
    )
    console.print(f"Anchors:       {', '.join(found['anchors']) or 'none'}")
    inside = [name for name, why in found["published"].items() if why is None]
    console.print(f"Published networks inside: {', '.join(inside) or 'none'}")
    for name, why in found["published"].items():
        if why is not None:
            console.print(f"  {name} lies outside: {why}", markup=False)


def print_samples(found: Sequence[Mapping[str, Any]]) -> None:
    """A line an architecture; the note goes to stderr, since scripts read the lines."""
    console = Console(soft_wrap=True)
    for row in found:
        cost = f"{row['macs'] / 1e6:8.1f} MMACs {row['num_params'] / 1e6:6.2f} M params"
        console.print(f"{row['hash']} {cost}  {row['architecture']}", highlight=False)
    note = "MACs and parameters with 1000 classes, as papers count; a study's tables have the data's own."
    Console(stderr=True, soft_wrap=True).print(note)


def print_latency(found: Mapping[str, Any]) -> None:
    """The latency with its interval, what it was measured on, and what a reader should know about it."""
    console = Console(soft_wrap=True, highlight=False)
    size = f" at {found['resolution']} px" if found["resolution"] else ""
    macs = f", {found['macs'] / 1e6:.1f} MMACs with {found['num_classes']} classes" if found["macs"] is not None else ""
    low, high = found["latency_ms_interval"]
    console.print(
        f"{found['architecture']}{size}: {found['latency_ms']:.3f} ± {found['latency_ms_spread']:.3f} ms "
        f"({found['pairs']} pairs{macs})",
        markup=False,
    )
    console.print(f"95 % interval {low:.3f} to {high:.3f} ms; {found['ratio']:.3f} × the reference network")
    console.print(f"on {found['device']}; the reference network takes {found['reference_ms']:.3f} ms", markup=False)
    for note in found["notes"]:
        console.print(f"note: {note}", markup=False)


def print_exports(found: Sequence[Exported]) -> None:
    """What was written and how to load it."""
    console = Console(soft_wrap=True, highlight=False)
    for export in found:
        console.print(f"{export.source}: {export.architecture}")
        for path in export.files:
            console.print(f"  {path}")
        for note in export.notes:
            console.print(f"  {note}", markup=False)
        if export.load:
            console.print(f"  {export.load}", markup=False)
    console.print("Each was read back and checked against the model.")

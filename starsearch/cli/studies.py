"""What `run`, `front`, `status` and `space` print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from starsearch.cli.show import Cell, figure, print_facts, print_table, say, table
from starsearch.errors import counted, some
from starsearch.objective import IMAGENET_TOP1
from starsearch.report.front import anchor_recipe_note
from starsearch.report.summary import count_words, failure_reasons, hypervolume_gain, miss_lines, prediction_lines
from starsearch.report.table import NOT_APART, Row, architecture_lines, front_rows, legend_lines
from starsearch.report.view import StudyView
from starsearch.study.study_file import EMBEDDED_DATA

if TYPE_CHECKING:
    from starsearch.api.study import Study


def print_front(view: StudyView, *, with_agreement: bool = True) -> None:
    """Print the front as a table, how far lower fidelities can be trusted (unless that was said), and failures."""
    for lower in reversed(view.lower):
        found = lower.summary
        say(f"At {lower.fidelity}: {counted(found['complete'], 'trial')}, {found['on_front']} on its front.")
    if view.lower:
        say(f"At {view.fidelity}, the highest fidelity:")
    if not view.front.empty:
        print_table(render_front(view))
        rows = front_rows(view.front, view.objectives)[1]
        say(*architecture_lines(rows), "", *legend_lines(view.front))
    if view.knee is not None:
        say(f"Knee: trial {view.knee}.", *prediction_lines(view.predictions))
    else:
        say(*(miss_lines(view.summary) or ["No trial is complete yet, so there is no front."]))
    _print_estimates(view)
    if (note := anchor_recipe_note(view.trials)) is not None:
        say(note)
    _print_uncounted(view)
    if with_agreement:
        say(*view.agreement_lines)
    if not (failed := failure_reasons(view.trials)).empty:
        numbers: Cell = lambda row: some(row["numbers"], 5)  # noqa: E731
        columns = {"Count": "{count}", "Reason": "{reason}", "Trials": numbers}
        print_table(table(failed, columns, title="Failed trials", left=3))


def _print_uncounted(view: StudyView) -> None:
    for name, words in (
        ("interrupted", "interrupted: not counted, and run again when the study goes on."),
        ("repeated", "interrupted: not counted, and repeated by a later trial."),
        ("untrained", "not trained: what is known before breaks a constraint. They are not counted."),
        ("foreign", "made or ended by another program: not counted, and left as they are."),
    ):
        count = view.summary[name]
        if count and not (name == "untrained" and view.untrained_miss):  # which was said in place of the front
            say(f"{count} {'trial was' if count == 1 else 'trials were'} {words}")


def _print_estimates(view: StudyView) -> None:
    if view.estimated is not None:
        print_table(render_front(view.estimated, title="Front in estimated ImageNet top-1"))
        say(*legend_lines(view.estimated.front))
    if len(view.evidence) > 1:
        weight: Cell = lambda row: figure(row["weight"])  # noqa: E731
        columns = {"Task": "{task}", "What it means": "{meaning}", "Observations": "{observations}", "Weight": weight}
        print_table(table(view.evidence, columns, title="What the estimates rest on", left=2))
    say(*view.evidence_lines)


def render_front(view: StudyView, *, title: str | None = None) -> Table:
    """Return the front, or of one objective the ranking, as a table of figures."""
    headings, rows = front_rows(view.front, view.objectives)
    cells = [(f"{label}\n{unit}", f"{{cells[{at}]}}") for at, (label, unit) in enumerate(headings)]
    columns: list[tuple[str, Cell]] = [("#", "{rank}"), ("Trial", "{number}"), *cells]
    columns.append(("Against nearest published", _against))
    title = title or ("Front" if len(view.objectives) > 1 else "Ranking")
    shown = table(rows, columns, title=title, left=0, style=lambda row: "" if row.is_ranked else "dim")
    last = shown.columns[-1]
    last.justify, last.no_wrap, last.ratio, last.min_width = "left", False, 1, 12
    return shown


def _against(row: Row) -> Text:
    text = Text(row.anchor or row.nearest or "", style="bold" if row.anchor else "")
    for change, gain, is_apart in row.changes:
        style = "" if not is_apart else "green" if gain > 0 else "red" if gain < 0 else ""
        # Without its space a number never parts from its unit where the cell folds.
        text.append(" ").append(change.replace(" ", "") + ("" if is_apart else NOT_APART), style=style)
    return text if row.is_feasible else text.append(" (breaks a constraint)", style="italic")


def print_status(found: Mapping[str, Any]) -> None:
    """Print a line a fact, then one a failure."""
    facts = {"study": found["study"]}
    facts |= {f"at {one['fidelity']}": _counts(one) for one in found.get("fidelities", ())}
    knee = f", knee {found['knee']}" if found["knee"] is not None else ""
    facts |= {
        "storage": found["storage"],
        f"at {found['fidelity']}" if found.get("fidelities") else "trials": _counts(found),
        "evaluated for": f"{found['seconds'] / 60:.0f} min",
        "on the front": f"{counted(found['on_front'], 'trial')}{knee}",
    }
    for line in found["halving"]:
        what, _, words = line.partition(": ") if line.startswith("Successive") else ("epochs", "", line)
        facts[what.lower()] = words
    for name, best in found["best"].items():
        spread = f" ± {best['spread']:.2g}" if best["spread"] is not None else ""
        facts[f"best {name}"] = f"{best['value']:.4g}{spread} (trial {best['number']})"
    if missed := miss_lines(found):
        facts["infeasible"] = " ".join(missed)
    if (gain := hypervolume_gain(found["hypervolume"])) is not None:
        facts["hypervolume"] = f"{found['hypervolume']['front']:.4g}, {gain:+.0f} % over the published networks alone"
    print_facts(facts | {"driver": found["driver"] or "none at work"})
    say(*found.get("agreement", ()))
    say(*(f"trial {one['trial']} failed: {one['reason']}  ({one['architecture']})" for one in found["failures"]))


def _counts(found: Mapping[str, Any]) -> str:
    """Return how many trials ended how."""
    return f"{found['trials']}: {', '.join(f'{count} {words}' for count, words in count_words(found))}"


def print_end(outcome: Study) -> None:
    """Print how far a run came, what it wrote, and what to do next."""
    from starsearch.records.storage import shown

    ended, study, view = outcome.ended, outcome.source, outcome.view
    assert ended is not None  # it was run
    progress = f"{ended.finished} of {ended.wanted} trials"
    match ended.why:
        case "complete":
            say(f"Done: {progress}.")
        case "space exhausted":
            say(f"Done: {progress}; every architecture of the space has been tried.")
        case "nothing feasible":
            say(f"Stopped: {progress}; one candidate after another broke the study's constraints before training.")
            if view.count("COMPLETE"):
                say("Its constraints stay as they are, for it has trials: loosen them with a new --name.")
        case _:
            because = "Interrupted" if ended.why == "interrupted" else "The time budget is spent"
            say(f"{because}: {progress}. Nothing finished is lost.")
            command = [word.replace(view.url, shown(view.url)) for word in sys.argv[1:]]
            say(f"The same command goes on: starsearch {shlex.join(command)}")
    say("Written: " + ", ".join(str(path) for path in outcome.files))
    if not view.count("COMPLETE"):
        return
    say(f"Next:    starsearch dashboard {study}")
    miss = view.miss or {}
    if view.knee is not None and IMAGENET_TOP1 in view.spec.quantities:
        say(f"         starsearch train {study}:{view.knee} --data imagenet/ --recipe starnet-imagenet")
        return
    choice = "--knee" if view.knee is not None else f"--trial {miss['number']}" if miss.get("weights") else None
    if choice is not None:
        say(f"         starsearch export {study} {choice} --format timm,onnx --out best")
    if view.knee is not None:
        data = "" if view.spec.data == EMBEDDED_DATA else f" --data {shlex.quote(view.spec.data)}"
        say(
            f"         starsearch ship {study} --knee{data} --out product",
            "           (train it fully; --against NAME,… trains models of timm's beside it)",
        )


def print_space(found: Mapping[str, Any]) -> None:
    """Print dimensions, counts, constraints and anchors."""
    dimensions = [{"name": name, "values": words} for name, words in {**found["dimensions"], **found["recipe"]}.items()]
    title = f"{found['name']} ({found['family']}, {found['resolution']} px)"
    print_table(table(dimensions, {"Dimension": "{name}", "Values": "{values}"}, title=title, left=2))
    counted = ", counted with 1000 classes" if found["constraints"] != "none" else ""
    inside = [name for name, why in found["published"].items() if why is None]
    say(
        f"Architectures: at most {found['num_architectures']:,}",
        f"Constraints:   {found['constraints']}{counted} ({found['allowed_percent']:.0f} % of random ones allowed)",
        f"Anchors:       {', '.join(found['anchors']) or 'none'}",
        f"Published networks inside: {', '.join(inside) or 'none'}",
        *(f"  {name} lies outside: {why}" for name, why in found["published"].items() if why is not None),
    )

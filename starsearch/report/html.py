"""report.html: one page that opens offline."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from starsearch.objective import Objective
from starsearch.report.agreement import Agreement, agreement_lines
from starsearch.report.dimensions import dimension_figure
from starsearch.report.fidelities import Rung, stayed
from starsearch.report.figures import front_figure, learning_figure
from starsearch.report.front import front_table
from starsearch.report.labels import QUANTITIES, Quantity, anchor_label, quantity
from starsearch.report.predictions import prediction_errors, prediction_figure, prediction_lines
from starsearch.report.summary import failure_reasons, hypervolume_gain, miss_lines, summary
from starsearch.report.table import (
    NOT_APART,
    change_texts,
    has_predictions,
    legend_lines,
    plain_rows,
    published_text,
    reading_texts,
    shorten_numbers,
    shown_quantities,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def render_page(
    trials: pd.DataFrame,
    objectives: Sequence[Objective],
    facts: Mapping[str, str],
    *,
    title: str,
    commands: Sequence[str] = (),
    lower: Sequence[Rung] = (),
    agreements: Sequence[Agreement] = (),
) -> str:
    """The report as one HTML document that loads nothing from anywhere; all text of the study is escaped.

    Args:
        trials: of one fidelity.
        objectives: the study's; at least one.
        facts: what else there is to know (data, recipe, seed, device …), shown in this order.
        title: of the page.
        commands: that repeat the study.
        lower: lower fidelities, the nearest first.
        agreements: how far they can be trusted.
    """
    from plotly.offline import get_plotlyjs

    found = summary(trials, objectives)
    has_front = bool(front_table(trials, objectives)["on_front"].any())
    return Template(_page_file("page.html")).substitute(
        title=html.escape(title),
        style=_page_file("page.css"),
        script=_page_file("page.js"),
        # Embedded once; without a front there is nothing to draw and no need of five megabytes.
        plotly=get_plotlyjs() if has_front else "",
        figures_of_front=(_front_sections(trials, objectives) if has_front else _no_front(found))
        + _lower_sections(trials, objectives, lower, agreements),
        summary=_summary_tiles(found, objectives),
        failures=_failures(failure_reasons(trials)),
        facts="".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts.items()),
        commands=html.escape("\n".join(commands)),
    )


def _no_front(found: Mapping[str, Any]) -> str:
    nothing = ["No front: no trial is complete, feasible and measured in every objective."]
    return _notes(miss_lines(found["miss"]) if found["miss"] else nothing)


def _notes(lines: Sequence[str]) -> str:
    return "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)


def _page_file(name: str) -> str:
    return files("starsearch.report").joinpath("page", name).read_text(encoding="utf-8")


def _front_sections(trials: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    table = _front_table(front_table(trials, objectives), objectives)
    dimensions = dimension_figure(trials, objectives)
    sections = [
        ("Front" if len(objectives) > 1 else "Trials", _figure(front_figure(trials, objectives), "front")),
        ("Front, as a table" if len(objectives) > 1 else "Ranking", table),
    ]
    if errors := prediction_errors(trials, front_table(trials, objectives), objectives):
        sections.append(("Predicted against measured", _predictions(trials, errors)))
    if len(objectives) > 1:  # with one, the figure of trials already shows the best so far
        sections.append(("How the study learned", _learning(trials, objectives)))
    if dimensions is not None:
        note = (
            '<p class="note">Grey is a trial, blue a median; ρ is the rank correlation with the first '
            "objective. A search does not sample evenly, so these are hints and not effects.</p>"
        )
        sections.append(("What the dimensions do", note + _figure(dimensions, "dimensions")))
    return "".join(f"<section><h2>{heading}</h2>{body}</section>" for heading, body in sections)


def _lower_sections(
    trials: pd.DataFrame, objectives: Sequence[Objective], lower: Sequence[Rung], agreements: Sequence[Agreement]
) -> str:
    """How far the lower fidelities can be trusted, and who has no higher result."""
    sections = []
    if agreements:
        lines = [line for one in agreements for line in agreement_lines(one)]
        body = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        sections.append(("How far the cheaper fidelities can be trusted", body))
    above = trials
    for rung in lower:
        rows = stayed(rung, above)
        above = rung.trials
        note = '<p class="note">Values of another training: not to be compared with those above.</p>'
        if not rows.empty:
            heading = f"At {rung.fidelity} only"
            sections.append((html.escape(heading), note + _front_table(rows, objectives)))
    return "".join(f"<section><h2>{heading}</h2>{body}</section>" for heading, body in sections)


def _learning(trials: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    reference = summary(trials, objectives)["hypervolume"]["reference"]
    corner = ", ".join(
        f"{quantity(name).label} {quantity(name).number(value)} {quantity(name).unit}".strip()
        for name, value in reference.items()
    )
    note = f'<p class="note">Hypervolume between the front and the reference point ({html.escape(corner)}).</p>'
    return note + _figure(learning_figure(trials, objectives), "learning")


def _predictions(trials: pd.DataFrame, errors: Mapping[str, Any]) -> str:
    notes = _notes(prediction_lines(errors))
    measured = [name for name, found in errors.items() if found["networks"]]
    return notes + (_figure(prediction_figure(trials, measured), "predictions") if measured else "")


def _figure(figure: go.Figure, name: str) -> str:
    """The figure's element and script; plotly writes "<" of texts in JSON as an escape."""
    config = {"responsive": True, "displaylogo": False}
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config)
    return f'<div class="figure">{text}</div>'


def _summary_tiles(found: Mapping[str, Any], objectives: Sequence[Objective]) -> str:
    tiles = [
        (f"{found['complete']}", "complete trials"),
        (f"{found['failed']}", "failed"),
        (f"{found['infeasible']}", "beyond a constraint"),
        (_duration(found["seconds"]), "of evaluation"),
    ]
    for objective in objectives:
        if objective.name in found["best"]:
            best, shown = found["best"][objective.name], quantity(objective.name)
            label = f"best {shown.label} (trial {best['number']})"
            tiles.append((f"{shown.with_spread(best['value'], best['spread'])} {shown.unit}", label))
    if found["foreign"]:
        tiles.append((f"{found['foreign']}", "foreign (of other programs)"))
    gain = hypervolume_gain(found["hypervolume"])
    if gain is not None and len(objectives) > 1:
        tiles.append((f"{gain:+.1f} %", "hypervolume over the published networks alone"))
    return "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>" for value, label in tiles)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _front_table(front: pd.DataFrame, objectives: Sequence[Objective]) -> str:
    shown = shown_quantities(front, objectives)
    shown += [QUANTITIES[name] for name in ("macs", "num_params") if name in front and QUANTITIES[name] not in shown]
    columns = [heading for column in shown for heading in _headings(front, column)]
    headings = ["#", "Trial", "Architecture", *columns, "Against nearest published"]
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(heading)}</button></th>' for heading in headings
    )
    rows = []
    for row in plain_rows(front):
        mark = NOT_APART if row.get("told_apart_from_previous") is False else ""
        cells = [
            _cell(f"{row['rank'] or '–'}{mark}", row["rank"]),
            _cell(row["number"], row["number"]),
            _architecture_cell(row),
        ]
        for column in shown:
            keys = [row[column.name], row.get(f"{column.name}_predicted")]
            cells += [_cell(text, key) for text, key in zip(reading_texts(front, row, column), keys, strict=False)]
        cells.append(_change_cell(row, objectives))
        classes = " ".join(["anchor"] * (row["anchor"] is not None) + ["off"] * (row["rank"] is None))
        rows.append(f'<tr class="{classes}">{"".join(cells)}</tr>')
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_notes(legend_lines(front))}"
    )


def _headings(front: pd.DataFrame, column: Quantity) -> list[str]:
    return [column.heading] + ([f"predicted ({column.unit}, error)"] if has_predictions(front, column) else [])


def _cell(text: Any, key: Any) -> str:
    """A right-aligned cell that sorts by the number `key`, last where there is none."""
    number = "" if key is None or not math.isfinite(key) else f"{key!r}"
    return f'<td class="number" data-key="{number}">{"–" if text is None else html.escape(str(text))}</td>'


def _architecture_cell(row: Mapping[str, Any]) -> str:
    text = html.escape(str(row["architecture_text"])).replace(",", ",<wbr>")
    name = f"<b>{html.escape(row['anchor'])}</b> " if row["anchor"] else ""
    published = published_text(row) if row["anchor"] else ""
    note = f" ({published})" if published else ""
    note += "" if row["feasible"] else " <i>(breaks a constraint)</i>"
    return f'<td class="architecture">{name}<code>{text}</code>{note}</td>'


def _change_cell(row: Mapping[str, Any], objectives: Sequence[Objective]) -> str:
    if row["nearest_anchor"] is None:
        return '<td data-key=""></td>'
    changes = change_texts(row, objectives)
    spans = [
        f'<span class="{"better" if gain > 0 else "worse"}">{html.escape(text)}</span>'
        if is_apart and gain
        else f"<span>{html.escape(text)}{'' if is_apart else ', not told apart'}</span>"
        for text, gain, is_apart in changes
    ]
    label = html.escape(anchor_label(row["nearest_anchor"]))
    return f'<td class="change" data-key="{changes[0][1]!r}">{label}: {" ".join(spans)}</td>'


def _failures(failures: pd.DataFrame) -> str:
    if failures.empty:
        return '<p class="note">No trial failed.</p>'
    rows = [
        f'<tr><td class="number">{row["count"]}</td><td>{html.escape(row["reason"])}</td>'
        f"<td>{shorten_numbers(row['numbers'])}</td></tr>"
        for row in plain_rows(failures)
    ]
    head = '<thead><tr><th class="number">Count</th><th>Reason</th><th>Trials</th></tr></thead>'
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'

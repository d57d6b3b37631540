"""The page's interactive figures of the front and of its growth (plotly)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.objective import Objective
from starsearch.report.front import complete_trials, front_table, knee, loss_matrix
from starsearch.report.labels import QUANTITIES, anchor_label, quantity
from starsearch.report.plot import BLUE, GREEN, GREY, PUBLISHED_FAMILY, VERMILION, axis_label, plane_of
from starsearch.report.summary import hypervolume_history

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def front_figure(trials: pd.DataFrame, objectives: Sequence[Objective]) -> go.Figure:
    """All complete trials, the front, the anchors and the knee in the plane of the first two objectives.

    With one objective: the values in order of number. Hovering shows all that was measured.

    Args:
        trials: of one fidelity, with at least one front member.
        objectives: the study's; at least one.
    """
    import plotly.graph_objects as go

    rows = _marked_rows(trials, objectives)
    if len(objectives) == 1:
        traces, x_title, up = _ranking_traces(rows, objectives[0]), "Trial", objectives[0]
    else:
        across, up = plane_of(objectives)
        traces, x_title = _plane_traces(rows, across, up, has_border=len(objectives) == 2), axis_label(across, rows)
    figure = go.Figure(traces)
    figure.update_layout(xaxis_title=html.escape(x_title), yaxis_title=html.escape(axis_label(up, rows)))
    return styled(figure.update_layout(hovermode="closest"), height=540, top=64)


def learning_figure(trials: pd.DataFrame, objectives: Sequence[Objective]) -> go.Figure:
    """The front's hypervolume after each trial, as a share of its last."""
    import plotly.graph_objects as go

    history = hypervolume_history(trials, objectives)
    line = go.Scatter(
        x=history["number"],
        y=100 * history["share"],
        mode="lines",
        line={"color": BLUE, "shape": "hv"},
        name="",
        hovertemplate="trial %{x}: %{y:.1f} %",
    )
    figure = go.Figure(line)
    figure.update_layout(xaxis_title="Trial", yaxis_title="Hypervolume (% of the last)", yaxis_rangemode="tozero")
    return styled(figure, height=300)


def styled(figure: go.Figure, *, height: int, top: int = 20) -> go.Figure:
    """The look all figures share; colours that depend on light or dark are set by the page's script."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 20, "t": top, "b": 55},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_yaxes(zeroline=False, automargin=True)
    return figure


def _marked_rows(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """The complete trials with the columns `hover`, `on_front`, `is_anchor`, `is_knee`, best across first."""
    complete = complete_trials(trials, objectives)
    front = front_table(trials, objectives)
    complete = complete.assign(
        hover=_hover_texts(complete, objectives),
        on_front=complete["number"].isin(front["number"][front["on_front"]]),
        is_anchor=complete["anchor"].notna(),
        is_knee=complete["number"] == knee(front, objectives),
    )
    across = plane_of(objectives)[0] if len(objectives) > 1 else objectives[0]
    return complete.iloc[np.argsort(loss_matrix(complete, [across])[:, 0])]


def _plane_traces(rows: pd.DataFrame, across: Objective, up: Objective, *, has_border: bool) -> list[go.Scatter]:
    x, y = across.name, up.name
    mode = "lines+markers" if has_border else "markers"
    family = rows[rows["anchor"].isin(PUBLISHED_FAMILY)].sort_values("anchor")
    return [
        *_faint_points(rows, x, y),
        _dashed(family, x, y),
        _points(rows[rows["on_front"]], x, y, "front", BLUE, size=9, mode=mode, spreads=True),
        _anchor_points(rows[rows["is_anchor"]], x, y),
        _points(rows[rows["is_knee"]], x, y, "knee", GREEN, size=16, symbol="star"),
    ]


def _ranking_traces(rows: pd.DataFrame, objective: Objective) -> list[go.Scatter]:
    x, y = "number", objective.name
    return [
        *_faint_points(rows, x, y),
        _best_so_far(rows, objective),
        _points(rows[rows["on_front"]], x, y, "best", BLUE, size=9, spreads=True),
        _anchor_points(rows[rows["is_anchor"]], x, y),
    ]


def _faint_points(rows: pd.DataFrame, x: str, y: str) -> list[go.Scatter]:
    others = rows[~rows["on_front"] & ~rows["is_anchor"]]
    return [
        _points(others[others["feasible"]], x, y, "trial", GREY),
        _points(others[~others["feasible"]], x, y, "breaks a constraint", GREY, symbol="circle-open"),
    ]


def _points(
    rows: pd.DataFrame,
    x: str,
    y: str,
    name: str,
    color: str,
    *,
    size: int = 7,
    symbol: str = "circle",
    mode: str = "markers",
    spreads: bool = False,
) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=rows[x] * quantity(x).scale, y=rows[y] * quantity(y).scale, name=name, mode=mode,
        hovertext=rows["hover"], hoverinfo="text",
        marker={"color": color, "size": size, "symbol": symbol, "opacity": 0.55 if color == GREY else 1},
        line={"color": color, "shape": "hv", "width": 2},
        error_x=_errors(rows, x, color) if spreads else None,
        error_y=_errors(rows, y, color) if spreads else None,
    )  # fmt: skip


def _errors(rows: pd.DataFrame, name: str, color: str) -> dict[str, Any] | None:
    column = f"{name}_spread"
    if column not in rows or rows[column].isna().all():
        return None
    spread = rows[column].astype(float).fillna(0) * quantity(name).scale
    return {"type": "data", "array": spread, "color": color, "thickness": 1, "width": 3}


def _anchor_points(rows: pd.DataFrame, x: str, y: str) -> go.Scatter:
    trace = _points(rows, x, y, "published", VERMILION, size=10, symbol="diamond", mode="markers+text", spreads=True)
    texts = [html.escape(anchor_label(anchor)) for anchor in rows["anchor"]]
    # To either side in turn: published sizes lie close together.
    sides = [("bottom right", "top left")[i % 2] for i in range(len(rows))]
    return trace.update(text=texts, textposition=sides, textfont={"color": VERMILION})


def _best_so_far(complete: pd.DataFrame, objective: Objective) -> go.Scatter:
    import plotly.graph_objects as go

    rows = complete[complete["feasible"]].sort_values("number")
    values = rows[objective.name] * quantity(objective.name).scale
    best = (values.cummin() if objective.direction == "minimize" else values.cummax()).ffill()
    line = {"color": BLUE, "shape": "hv", "width": 2}
    return go.Scatter(x=rows["number"], y=best, mode="lines", hoverinfo="skip", name="best so far", line=line)


def _dashed(rows: pd.DataFrame, x: str, y: str) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=rows[x] * quantity(x).scale, y=rows[y] * quantity(y).scale, mode="lines", hoverinfo="skip", name="S1–S4",
        line={"color": VERMILION, "dash": "dash", "width": 1},
    )  # fmt: skip


def _hover_texts(complete: pd.DataFrame, objectives: Sequence[Objective]) -> list[str]:
    """Number, name and every measurement of each row, escaped for plotly's markup."""
    named = [objective.name for objective in objectives]
    known = list(QUANTITIES)
    measured = [name for name in dict.fromkeys([*named, *known]) if name in complete]
    texts = []
    for row in complete.to_dict("records"):
        lines = [f"<b>trial {row['number']}</b>"]
        if isinstance(row["anchor"], str):
            lines[0] += f" {html.escape(row['anchor'])}"
        lines.append(html.escape(str(row["architecture_text"])).replace(",", ",<br>\u2003"))
        lines += [_hover_line(row, name) for name in measured]
        texts.append("<br>".join(lines))
    return texts


def _hover_line(row: Mapping[Any, Any], name: str) -> str:
    shown = quantity(name)
    if row.get(f"{name}_kind") == "predicted":
        low, high = (shown.number(float(row[f"{name}_{end}"])) for end in ("low", "high"))
        value = f"{shown.predicted(float(row[name]))} ({low}–{high})"
    else:
        value = shown.with_spread(float(row[name]), row.get(f"{name}_spread"))
    return f"{html.escape(shown.label)}: {value} {shown.unit}"

"""The page's interactive figures (plotly): front, hypervolume, what matters, predictions, fidelities."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from starsearch.quantities import quantity
from starsearch.records.table import reading_names
from starsearch.report.agreement import judged_at_both
from starsearch.report.analysis import hypervolume_history, what_matters
from starsearch.report.plot import (
    BLUE,
    BREAKS,
    GREEN,
    GREY,
    PUBLISHED_FAMILY,
    PURPLE,
    VERMILION,
    Plane,
    anchor_labels,
    axis_label,
    best_so_far,
    limits_on,
    peers_on,
    placed,
    plane_of,
)
from starsearch.report.summary import predicted_and_measured
from starsearch.report.table import anchor_label, plain_rows, reading_text
from starsearch.report.view import StudyView

_COLORS = {"trial": GREY, "breaks a constraint": GREY, "front": BLUE, "published": VERMILION, "knee": GREEN}
_COLORS[BREAKS] = VERMILION
LOWER = ("#8A6D00", "#2F7FB5", PURPLE)
_SYMBOLS = {"breaks a constraint": "circle-open", "published": "diamond", "knee": "star", BREAKS: "diamond-open"}


def front_figure(view: StudyView) -> go.Figure:
    """Return all complete trials, the front, the anchors and the knee; pointing at one shows all that was measured.

    With one objective: the values in order of number, with the best so far.
    """
    plane = plane_of(view.objectives)
    points = placed(view.complete, plane)
    is_member = points["number"].isin(view.front["number"][view.front["on_front"]])
    points["what"] = np.where(points["feasible"], "trial", "breaks a constraint")
    points.loc[is_member, "what"] = "front"
    points.loc[points["anchor"].notna(), "what"] = "published"
    points.loc[points["anchor"].notna() & ~points["feasible"], "what"] = BREAKS
    if plane[0] is not None:
        points.loc[points["number"] == view.knee, "what"] = "knee"
    points["hover"] = [_hover(row) for row in plain_rows(points)]
    peers, is_anchor = peers_on(view, plane), points["anchor"].notna()
    points["label"] = ""
    points.loc[is_anchor, "label"] = anchor_labels(points[is_anchor], peers)
    points.loc[points["what"].isin(["trial", "breaks a constraint"]), ["dx", "up", "down"]] = np.nan
    figure = px.scatter(
        points, x="x", y="y", error_x="dx", error_y="up", error_y_minus="down", color="what", symbol="what",
        text="label", hover_name="hover", custom_data=["number", "fidelity"], color_discrete_map=_COLORS,
        symbol_map=dict.fromkeys(_COLORS, "circle") | _SYMBOLS,
        category_orders={"what": list(_COLORS)}, render_mode="svg",
    )  # fmt: skip
    figure.update_traces(hovertemplate="%{hovertext}<extra></extra>", textposition="bottom right", marker_size=9)
    figure.update_traces(marker_size=16, selector={"name": "knee"})
    # Of a thin outline little is left below the caps of its error bars.
    figure.update_traces(marker_size=12, marker_line_width=2.5, selector={"name": BREAKS})
    for trace in figure.data:  # errors keep the colour of the role, whatever points are coloured by
        trace.update(opacity=0.55 if trace.marker.color == GREY else 1)
        trace.update(error_x_color=trace.marker.color, error_y_color=trace.marker.color)
    if plane[0] is None:
        _add_line(figure, best_so_far(points, plane[1]), "best so far", color=BLUE, shape="hv")
    else:
        if len(view.objectives) == 2:
            border = points[is_member].assign(y=points["edge"])  # of estimates below the points
            _add_line(figure, border, "border", color=BLUE, shape="hv")
        family = points[points["anchor"].isin(PUBLISHED_FAMILY)].sort_values("anchor")
        _add_line(figure, family, "S1–S4", color=VERMILION, dash="dash", width=1)
        _add_peers(figure, peers)
    for limit, label in limits_on(view, plane):
        figure.add_vline(limit, line={"width": 1, "dash": "dot", "color": GREY}, name=label, showlegend=True)
    for one in view.lower:
        _add_lower(figure, one, plane)
    titles = [html.escape(axis_label(one, points)) for one in plane]
    if len(peers):  # those far slower than any trial would squeeze the rest
        ends = pd.concat([points["x"], peers["x"][peers["x"] < points["x"].max()]]).agg(["min", "max"])
        figure.update_xaxes(range=[ends["min"] - 0.05 * np.ptp(ends), ends["max"] + 0.05 * np.ptp(ends)])
    return _styled(figure, height=540).update_layout(xaxis_title=titles[0], yaxis_title=titles[1], legend_title="")


def _add_peers(figure: go.Figure, peers: pd.DataFrame) -> None:
    hover = [
        html.escape(
            f"{one['name']}: published top-1 {one['top1_percent']} % at {one['resolution']:.0f} px"
            f"{', distilled' if one['distilled'] == 'yes' else ''} ({one['top1_source']})"
            f"{'; latency shipped, from another machine' if one['shipped'] else ''}"
        )
        for one in plain_rows(peers)
    ]
    if hover:
        figure.add_scatter(
            x=peers["x"], y=peers["y"], mode="markers+text", name="peers (timm)", hovertext=hover, hoverinfo="text",
            error_x={"array": peers["dx"]}, text=peers["letter"], textposition="top left",
            textfont={"size": 10, "color": PURPLE}, marker={"symbol": "cross", "size": 8, "color": PURPLE},
        )  # fmt: skip


def _add_lower(figure: go.Figure, view: StudyView, plane: Plane) -> None:
    """Add a lower fidelity's trials, hidden until they are asked for: their values are of another training."""
    points = placed(view.complete, plane)
    if len(points):
        figure.add_scatter(
            x=points["x"], y=points["y"], mode="markers", name=f"at {html.escape(view.fidelity)}", visible="legendonly",
            customdata=points[["number", "fidelity"]], hovertext=[_hover(row) for row in plain_rows(points)],
            hoverinfo="text", marker={"symbol": "triangle-up-open", "size": 8, "color": LOWER[len(figure.data) % 3]},
        )  # fmt: skip


def _hover(row: dict[str, Any]) -> str:
    """Return number, network and every measurement of a row, escaped for plotly's markup."""
    names = [name for name in reading_names(row) if quantity(name).direction and row[name] is not None]
    lines = [f"<b>trial {row['number']}</b> {html.escape(row['anchor'] or '')}"]
    lines.append(html.escape(str(row["architecture_text"])).replace(",", ",<br>\u2003"))
    lines += [f"{quantity(name).label}: {reading_text(row, quantity(name))} {quantity(name).unit}" for name in names]
    return "<br>".join(lines)


def _add_line(figure: go.Figure, rows: pd.DataFrame, name: str, **line: Any) -> None:
    if len(rows):
        figure.add_scatter(x=rows["x"], y=rows["y"], mode="lines", name=name, hoverinfo="skip", line=line)


def prediction_figure(trials: pd.DataFrame, names: list[str]) -> go.Figure:
    """Return predicted against measured with 90 % intervals, a colour a quantity, and the line of equals.

    Args:
        trials: some of them measured after they had been predicted.
        names: quantities of one unit, at least one of them measured.
    """
    pairs = pd.concat([predicted_and_measured(trials, name).assign(what=quantity(name).label) for name in names])
    pairs = pairs.assign(up=pairs["high"] - pairs["predicted"], down=pairs["predicted"] - pairs["low"])
    unit = quantity(names[0]).unit
    figure = px.scatter(
        pairs, x="measured", y="predicted", error_y="up", error_y_minus="down", color="what",
        color_discrete_sequence=[BLUE, VERMILION, GREEN], hover_name="number",
        hover_data={"architecture_text": True, "low": ":.2f", "high": ":.2f", "error_percent": ":+.1f"},
        labels={"measured": f"Measured ({unit})", "predicted": f"Predicted ({unit})", "what": ""},
    )  # fmt: skip
    ends = pd.concat([pairs["measured"], pairs["low"], pairs["high"]]).agg(["min", "max"])
    _add_line(figure, pd.DataFrame({"x": ends, "y": ends}), "equal", color=GREY, dash="dash", width=1)
    return _styled(figure, height=460)


def hypervolume_figures(view: StudyView) -> dict[str, go.Figure]:
    """Return the hypervolume over trials and over the time spent; none of one objective, one trial or no front."""
    if min(len(view.objectives), len(view.trials)) < 2 or view.hypervolume is None:
        return {}
    history, figures = hypervolume_history(view), {}
    for name, across, title in (("volume", "number", "Trial"), ("compute", "hours", "Hours of evaluation")):
        figures[name] = figure = go.Figure()
        _add_line(figure, history.rename(columns={across: "x", "volume": "y"}), "front", color=BLUE, shape="hv")
        anchors = view.hypervolume["anchors"] if view.hypervolume["num_anchors"] > 1 else 0.0
        if anchors:
            ends = history[across].agg(["min", "max"])
            _add_line(figure, pd.DataFrame({"x": ends, "y": anchors}), "published alone", color=VERMILION, dash="dash")
        _styled(figure, height=320).update_layout(xaxis_title=title, yaxis_title="Hypervolume")
    return figures


def importance_figures(view: StudyView) -> dict[str, go.Figure]:
    """Return by objective what matters (`what_matters`) as bars, the most important dimension on top."""
    figures = {}
    for name, (how, found) in what_matters(view).items():
        figure = go.Figure(go.Bar(x=list(found.values()), y=list(found), orientation="h", marker_color=BLUE))
        heading = html.escape(quantity(name).label)
        figures[f"matters {name}"] = _styled(figure, height=120 + 22 * len(found)).update_layout(
            xaxis_title=html.escape(how), yaxis_title=heading, yaxis_type="category"
        )
    return figures


def agreement_figures(view: StudyView) -> dict[str, go.Figure]:
    """Return each lower fidelity against the one above it: the candidates that were judged at both."""
    figures = {}
    views = {one.fidelity: one for one in (view, *view.lower)}
    for found in view.agreements:
        ranked = next(one for one in view.objectives if one.name == found.quantity)
        both = judged_at_both(views[found.lower].trials, views[found.upper].trials, ranked)
        both["what"] = np.where(both["anchor"].notna(), "published", "trial")
        both["label"] = [anchor_label(one) if isinstance(one, str) else "" for one in both["anchor"]]
        figure = px.scatter(
            both, x="below", y="above", color="what", text="label", symbol="what", hover_name="architecture_text",
            color_discrete_map={"trial": BLUE, "published": VERMILION}, symbol_map={"published": "diamond"},
        )  # fmt: skip
        label = quantity(ranked.name).heading
        names = [html.escape(f"{label} at {one}") for one in (found.lower, found.upper)]
        figures[f"agreement {found.lower}"] = _styled(figure, height=400).update_layout(
            xaxis_title=f"{names[0]}; τ {html.escape(str(found.overall))}", yaxis_title=names[1], legend_title=""
        )
        figure.update_traces(textposition="bottom right", marker_size=9)
    return figures


def _styled(figure: go.Figure, *, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        title=None,
        margin={"l": 60, "r": 20, "t": 48, "b": 55},
        font={"family": "system-ui, sans-serif", "size": 13},
        hoverlabel={"align": "left"},
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure

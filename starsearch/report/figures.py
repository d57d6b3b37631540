"""The page's interactive figures (plotly): our front and predictions, Optuna's slices and history."""

from __future__ import annotations

import html
import warnings
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from starsearch.quantities import quantity
from starsearch.records.storage import quiet_optuna
from starsearch.records.table import reading_names
from starsearch.report.plot import (
    BLUE,
    GREEN,
    GREY,
    PUBLISHED_FAMILY,
    VERMILION,
    axis_label,
    best_so_far,
    placed,
    plane_of,
)
from starsearch.report.summary import predicted_and_measured
from starsearch.report.table import anchor_label, plain_rows, reading_text
from starsearch.report.view import StudyView

_COLORS = {"trial": GREY, "breaks a constraint": GREY, "front": BLUE, "published": VERMILION, "knee": GREEN}
_SYMBOLS = {"breaks a constraint": "circle-open", "published": "diamond", "knee": "star"}


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
    if plane[0] is not None:
        points.loc[points["number"] == view.knee, "what"] = "knee"
    points["hover"] = [_hover(row) for row in plain_rows(points)]
    points["label"] = [anchor_label(one) if isinstance(one, str) else "" for one in points["anchor"]]
    points.loc[points["what"].isin(["trial", "breaks a constraint"]), ["dx", "up", "down"]] = np.nan
    figure = px.scatter(
        points, x="x", y="y", error_x="dx", error_y="up", error_y_minus="down", color="what", symbol="what",
        text="label", custom_data=["hover"], color_discrete_map=_COLORS,
        symbol_map=dict.fromkeys(_COLORS, "circle") | _SYMBOLS,
        category_orders={"what": list(_COLORS)},
    )  # fmt: skip
    figure.update_traces(hovertemplate="%{customdata[0]}<extra></extra>", textposition="bottom right", marker_size=9)
    figure.update_traces(marker_size=16, selector={"name": "knee"})
    figure.for_each_trace(lambda trace: trace.update(opacity=0.55 if trace.marker.color == GREY else 1))
    if plane[0] is None:
        _add_line(figure, best_so_far(points, plane[1]), "best so far", color=BLUE, shape="hv")
    else:
        if len(view.objectives) == 2:
            border = points[is_member].assign(y=points["edge"])  # of estimates below the points
            _add_line(figure, border, "border", color=BLUE, shape="hv")
        family = points[points["anchor"].isin(PUBLISHED_FAMILY)].sort_values("anchor")
        _add_line(figure, family, "S1–S4", color=VERMILION, dash="dash", width=1)
    titles = [html.escape(axis_label(one, points)) for one in plane]
    return _styled(figure, height=540).update_layout(xaxis_title=titles[0], yaxis_title=titles[1], legend_title="")


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


def optuna_figures(view: StudyView) -> dict[str, go.Figure]:
    """Return Optuna's plots of the study by heading: its hypervolume, and each objective over every dimension."""
    from optuna.visualization import plot_hypervolume_history, plot_slice

    figures: dict[str, go.Figure] = {}
    study = _as_optuna(view)
    with warnings.catch_warnings(action="ignore"):  # Optuna calls its plots experimental
        if len(view.objectives) > 1 and view.hypervolume is not None:  # with one, the figure of trials shows the best
            reference = list(view.hypervolume["reference"].values())
            figures["Hypervolume after each trial"] = plot_hypervolume_history(study, reference)
        for i, objective in enumerate(view.objectives):
            shown = quantity(objective.name)
            target = lambda trial, i=i, scale=shown.scale: trial.values[i] * scale  # noqa: E731
            slices = plot_slice(study, target=target, target_name=shown.heading)
            if slices.data:
                figures[f"{shown.heading} by dimension"] = slices
    return {heading: _styled(figure, height=340) for heading, figure in figures.items()}


def _as_optuna(view: StudyView) -> Any:
    """Return the view's trials as a study of Optuna in memory, with their numbers."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution
    from optuna.trial import create_trial

    distributions: dict[str, Any] = {}
    for name in (str(column) for column in view.complete if str(column).startswith("params_")):
        values = view.complete[name].dropna()
        if len(values.unique()) < 2:
            continue
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            low, high, is_wide = values.min(), values.max(), pd.api.types.is_float_dtype(values)
            distributions[name] = FloatDistribution(float(low), float(high), log=is_wide and 0 < 10 * low < high)
        else:
            distributions[name] = CategoricalDistribution(sorted(values.unique(), key=str))
    names = [objective.name for objective in view.objectives]
    measured = view.complete.replace([np.inf, -np.inf], np.nan).dropna(subset=names)
    by_number = {row["number"]: row for row in plain_rows(measured)}
    with quiet_optuna():
        study = optuna.create_study(directions=[objective.direction for objective in view.objectives])
        for number in range(max(by_number, default=-1) + 1):
            row = by_number.get(number)
            if row is None:
                study.add_trial(create_trial(state=optuna.trial.TrialState.FAIL))
                continue
            params = {name: row[name] for name in distributions if row[name] is not None}
            trial = create_trial(
                values=[row[name] for name in names],
                params={name.removeprefix("params_"): value for name, value in params.items()},
                distributions={name.removeprefix("params_"): distributions[name] for name in params},
                constraints={"infeasible": 0.0 if row["feasible"] else 1.0},
            )
            study.add_trial(trial)
    return study


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

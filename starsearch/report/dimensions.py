"""The page's interactive figure of what each searched dimension does (plotly)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starsearch.objective import Objective
from starsearch.report.figures import styled
from starsearch.report.front import complete_trials
from starsearch.report.labels import quantity
from starsearch.report.plot import BLUE, GREY

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_COLUMNS = 4
_ROW_HEIGHT_PX = 170
# A panel with more points answers slowly; the trials drawn are spread evenly over the study.
_MAX_POINTS_A_PANEL = 400
# From this many values on a dimension is a continuum, and has no median a value.
_MAX_LEVELS = 12
# A continuum whose ends are further apart than this is searched, and so drawn, on a logarithmic scale.
_LOG_FROM_RATIO = 5


def dimension_figure(trials: pd.DataFrame, objectives: Sequence[Objective]) -> go.Figure | None:
    """One small panel a searched dimension, its values against an objective that buttons choose.

    Medians of up to a dozen values are marked; the title of a numeric dimension holds Spearman's rank
    correlation with the first objective. None where no dimension takes two values.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    complete = _thin_out(complete_trials(trials, objectives))
    searched = [str(name) for name in complete.columns if str(name).startswith("params_")]
    names = [name for name in searched if len(complete[name].dropna().unique()) > 1]
    if not names:
        return None
    num_rows = math.ceil(len(names) / _COLUMNS)
    titles = [_dimension_title(complete, name, objectives[0]) for name in names]
    figure = make_subplots(
        rows=num_rows, cols=_COLUMNS, subplot_titles=titles, horizontal_spacing=0.045, vertical_spacing=0.4 / num_rows
    )
    traces_of: list[str] = []
    for i, name in enumerate(names):
        place = {"row": i // _COLUMNS + 1, "col": i % _COLUMNS + 1}
        for objective in objectives:
            shown = objective is objectives[0]
            for trace in _dimension_traces(complete, name, objective):
                figure.add_trace(trace.update(visible=shown), **place)
                traces_of.append(objective.name)
        figure.update_xaxes(**_axis_of(complete[name]), **place)
    figure.update_annotations(font_size=12)
    if len(objectives) > 1:
        figure.update_layout(updatemenus=[_objective_buttons(traces_of, objectives)])
    assert isinstance(figure, go.Figure)
    return styled(figure.update_layout(showlegend=False), height=_ROW_HEIGHT_PX * num_rows + 90, top=90)


def _thin_out(complete: pd.DataFrame) -> pd.DataFrame:
    every = math.ceil(len(complete) / _MAX_POINTS_A_PANEL) if len(complete) else 1
    return complete.iloc[::every]


def _is_numeric(values: pd.Series[Any]) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _axis_of(values: pd.Series[Any]) -> dict[str, Any]:
    """Linear, logarithmic for a continuum over most of a decade, or of categories in alphabetical order."""
    if not _is_numeric(values):
        return {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": sorted(values.dropna().unique(), key=str),
        }
    known = values.dropna()
    is_log = len(known.unique()) > _MAX_LEVELS and known.min() > 0 and known.max() / known.min() > _LOG_FROM_RATIO
    return {"type": "log", "dtick": 1} if is_log else {"type": "linear"}


def _dimension_title(complete: pd.DataFrame, name: str, objective: Objective) -> str:
    title = html.escape(name.removeprefix("params_"))
    if not _is_numeric(complete[name]):
        return title
    # Pearson's correlation of ranks is Spearman's; pandas' own wants scipy.
    correlation = complete[name].rank().corr(complete[objective.name].rank())
    return title if math.isnan(correlation) else f"{title}  (ρ {correlation:+.2f})".replace("-", "−")


def _dimension_traces(complete: pd.DataFrame, name: str, objective: Objective) -> list[go.Scatter]:
    import plotly.graph_objects as go

    shown = quantity(objective.name)
    rows = complete[[name, objective.name, "number"]].dropna()
    values = rows[objective.name] * shown.scale
    points = go.Scatter(
        x=rows[name], y=values, mode="markers", customdata=rows["number"],
        marker={"color": GREY, "size": 4, "opacity": 0.5},
        hovertemplate=f"trial %{{customdata}}: %{{x}}, %{{y:.{shown.decimals}f}} {shown.unit}<extra></extra>",
    )  # fmt: skip
    medians = values.groupby(rows[name]).median()
    if len(medians) > _MAX_LEVELS:
        return [points]
    # A line between categories would claim an order.
    mode = "lines+markers" if _is_numeric(rows[name]) else "markers"
    line = go.Scatter(
        x=medians.index, y=medians, mode=mode, line={"color": BLUE, "width": 2}, marker={"size": 6, "color": BLUE},
        hovertemplate=f"median at %{{x}}: %{{y:.{shown.decimals}f}} {shown.unit}<extra></extra>",
    )  # fmt: skip
    return [points, line]


def _objective_buttons(traces_of: Sequence[str], objectives: Sequence[Objective]) -> dict[str, Any]:
    buttons = [
        {
            "label": quantity(objective.name).heading,
            "method": "restyle",
            "args": [{"visible": [of == objective.name for of in traces_of]}],
        }
        for objective in objectives
    ]
    place = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "pad": {"b": 40, "t": 0}}
    return {"type": "buttons", "direction": "right", "buttons": buttons, "showactive": True, **place}

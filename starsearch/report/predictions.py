"""How well what was predicted fits what was measured afterwards."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.objective import Objective
from starsearch.report.labels import quantity
from starsearch.resources import shipped_names

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_SUFFIX = "_predicted"
_CONFIDENCE = 0.9
# A profile that holds is called broken this seldom.
_SIGNIFICANCE = 0.01


def predicted_quantities(trials: pd.DataFrame) -> list[str]:
    """The names of what any of `trials` predicted, in the order of their columns."""
    names = [str(column).removesuffix(_SUFFIX) for column in trials.columns if str(column).endswith(_SUFFIX)]
    return [name for name in names if name in trials]


def prediction_errors(
    trials: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]
) -> dict[str, dict[str, Any]]:
    """How far off the predictions were, for each predicted quantity, ready for JSON.

    Args:
        trials: the study's.
        front: of `front_table`.
        objectives: of the study; they name the profiles.

    Returns:
        By name: `networks` that were measured after they had been predicted, `mape_percent` (mean absolute error
        in percent of the measured value; None without any), `inside` (how many lie in their 90 % interval),
        `only_predicted` (front members that were not measured), `corrected_percent` (by how much the measured ones
        move the other predictions; None where there are no others) and `repair` (the command that makes a better
        profile where more lie outside than chance explains; else None).
    """
    from scipy.stats import binom

    profiles = {one.name: one.device for one in objectives}
    found: dict[str, dict[str, Any]] = {}
    members = set(front["number"][front["on_front"]])
    for name in predicted_quantities(trials):
        pairs = predicted_and_measured(trials, name)
        inside = pairs["measured"].between(pairs["low"], pairs["high"])
        unmeasured = trials[trials[f"{name}_kind"] == "predicted"]
        open_members = unmeasured[unmeasured["number"].isin(members)]
        moved = (unmeasured[name] / unmeasured[f"{name}{_SUFFIX}"]).median() if len(pairs) else np.nan
        chance = binom.sf(len(pairs) - inside.sum() - 1, len(pairs), 1 - _CONFIDENCE) if len(pairs) else 1.0
        found[name] = {
            "networks": len(pairs),
            "mape_percent": float(pairs["error_percent"].abs().mean()) if len(pairs) else None,
            "inside": int(inside.sum()),
            "only_predicted": len(open_members),
            "corrected_percent": float(100 * (moved - 1)) if np.isfinite(moved) else None,
            "repair": _repair(trials, name, profiles.get(name)) if chance < _SIGNIFICANCE else None,
        }
    return found


def _repair(trials: pd.DataFrame, name: str, profile: str | None) -> str:
    """The command that adapts the profile to what it was measured to be wrong about."""
    base = profile if profile in shipped_names("profiles") else f"{profile or 'PROFILE'}.yaml"
    options = trials.attrs.get("fit_options", {}).get(name, f"--from {base}")  # older studies do not say which files
    command = f"starsearch latency fit --out {profile or 'better'}-2.yaml {options}"
    runs = trials.get(f"{name}_runs")
    if runs is not None and runs.notna().any():  # measured in pairs, so on a machine that `fit` can measure on
        return f"{command} --budget 10"
    return f'{command} --measurements FILE.csv --device "WHAT WAS MEASURED"'


def predicted_and_measured(trials: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row a network that was predicted and then measured.

    Returns:
        Columns `number`, `architecture_text`, `measured`, `predicted`, `low`, `high` (of the 90 % interval) and
        `error_percent`, positive where the prediction was too large.
    """
    rows = trials[trials[f"{name}{_SUFFIX}"].notna() & (trials[f"{name}_kind"] == "measured")]
    columns = {
        "number": "number",
        "architecture_text": "architecture_text",
        name: "measured",
        f"{name}{_SUFFIX}": "predicted",
        f"{name}_low": "low",
        f"{name}_high": "high",
        f"{name}_error_percent": "error_percent",
    }
    # Reindexed: a study of which nothing has been measured has no column of errors.
    pairs = rows.drop_duplicates("architecture").reindex(columns=list(columns))
    return pairs.rename(columns=columns).reset_index(drop=True)


def prediction_lines(errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `prediction_errors` found, a sentence or two a quantity."""
    return [_line(name, found) for name, found in errors.items()]


def prediction_figure(trials: pd.DataFrame, names: Sequence[str]) -> go.Figure:
    """Predicted against measured with the 90 % intervals, a colour a quantity, and the line on which both are equal.

    Args:
        trials: of which some were measured after they had been predicted.
        names: of the quantities, all of one unit; at least one of them measured.
    """
    import plotly.graph_objects as go

    from starsearch.report.figures import styled
    from starsearch.report.plot import BLUE, GREEN, GREY, VERMILION

    figure = go.Figure()
    ends: list[float] = []
    for i, name in enumerate(names):
        pairs = predicted_and_measured(trials, name)
        figure.add_trace(_points(pairs, name, (BLUE, VERMILION, GREEN)[i % 3]))
        ends += [*pairs["measured"], *pairs["low"], *pairs["high"]]
    diagonal = [float(np.min(ends)), float(np.max(ends))]
    line = {"color": GREY, "dash": "dash", "width": 1}
    figure.add_trace(go.Scatter(x=diagonal, y=diagonal, mode="lines", hoverinfo="skip", name="equal", line=line))
    unit = quantity(names[0]).unit
    figure.update_layout(xaxis_title=f"Measured ({unit})", yaxis_title=f"Predicted ({unit})", hovermode="closest")
    return styled(figure, height=460, top=48)


def _points(pairs: pd.DataFrame, name: str, color: str) -> go.Scatter:
    import plotly.graph_objects as go

    shown = quantity(name)
    hover = [
        f"<b>trial {row['number']}</b><br>{html.escape(str(row['architecture_text'])).replace(',', ',<br>')}<br>"
        f"measured {shown.number(row['measured'])}, predicted {shown.number(row['predicted'])} "
        f"({shown.number(row['low'])}–{shown.number(row['high'])}) {shown.unit}, {row['error_percent']:+.1f} %"
        for row in pairs.to_dict("records")
    ]
    interval = {
        "type": "data", "symmetric": False, "array": pairs["high"] - pairs["predicted"],
        "arrayminus": pairs["predicted"] - pairs["low"], "color": color, "thickness": 1, "width": 3,
    }  # fmt: skip
    return go.Scatter(
        x=pairs["measured"], y=pairs["predicted"], error_y=interval, mode="markers", name=html.escape(shown.label),
        hovertext=hover, hoverinfo="text", marker={"color": color, "size": 8},
    )  # fmt: skip


def _line(name: str, found: Mapping[str, Any]) -> str:
    label, networks = quantity(name).label, found["networks"]
    if networks:
        text = (
            f"{label}: predictions were off by {found['mape_percent']:.1f} % on average over {networks} measured "
            f"{'network' if networks == 1 else 'networks'}; {found['inside']} of them within the 90 % interval."
        )
    else:
        text = f"{label} is predicted; none of it has been measured."
    only = found["only_predicted"]
    if networks and only:
        text += f" {only} on the front {'is' if only == 1 else 'are'} predicted only."
    if (corrected := found.get("corrected_percent")) is not None:
        text += f" What was not measured is corrected accordingly, by {corrected:+.1f} % (median)."
    if (repair := found.get("repair")) is not None:
        text += f" The profile does not hold; repair it: {repair}"
    return text

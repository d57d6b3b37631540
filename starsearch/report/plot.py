"""front.png: the front as a printed figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.objective import Objective
from starsearch.report.fidelities import Rung, without_higher
from starsearch.report.front import complete_trials, front_table, knee, loss_matrix
from starsearch.report.labels import anchor_label, quantity
from starsearch.report.placement import place_labels, sample_polyline
from starsearch.report.summary import miss_lines, nearest_miss

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every common colour vision deficiency (jfly.uni-koeln.de/color).
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"

_FONTS = ("Helvetica", "Arial", "Liberation Sans", "DejaVu Sans")

# The published sizes of one family, drawn as the line a searched front has to beat.
PUBLISHED_FAMILY = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")

_STRIP_INCHES = 1.0  # of a lower fidelity

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#444444",
    "axes.titlesize": 9.5,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
}


def draw_front(
    trials: pd.DataFrame, objectives: Sequence[Objective], *, title: str, lower: Sequence[Rung] = ()
) -> Figure:
    """The study's trials, front, anchors and knee as a matplotlib figure of 6.4 × 4.2 inches.

    The first two of the objectives span the picture (the minimised one lies across); a third is seen by
    colour. With one objective the trials are drawn in order of number, with the best so far. Points that lie
    more than half the range of front and anchors beyond them are left outside, and counted in the corner.

    Args:
        trials: of one fidelity.
        objectives: the study's; at least one.
        title: above the picture; study, data set and fidelity.
        lower: lower fidelities, the nearest first: each in a strip of its own below, with its trials that have no
            higher result, those of its front joined by a line; not where there is one objective.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**_STYLE, "font.family": _font()}
    with rc_context(style):
        below = _who_stayed(trials, lower) if len(objectives) > 1 else []
        figure = Figure(figsize=(6.4, 4.2 + _STRIP_INCHES * len(below)), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        heights = [4.2, *(_STRIP_INCHES for _ in below)]
        axes, *strips = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        axes.set_title(title, loc="left", pad=28)  # above the legend, which may be as wide as the picture
        front = front_table(trials, objectives)
        if not front["on_front"].any():
            _say_there_is_no_front(axes, trials, objectives)
        elif len(objectives) == 1:
            _draw_ranking(axes, trials, objectives[0])
        else:
            _draw_plane(axes, complete_trials(trials, objectives), front, objectives)
            for strip, (name, rows) in zip(strips, below, strict=True):
                _draw_strip(strip, name, rows, objectives)
            _label_below(axes, strips)
    return figure


def _who_stayed(trials: pd.DataFrame, lower: Sequence[Rung]) -> list[tuple[str, pd.DataFrame]]:
    """Of each lower fidelity its name and its feasible trials that have no higher result, where there are any."""
    found = []
    for rung, above in zip(lower, [trials, *(rung.trials for rung in lower)], strict=False):
        complete = rung.trials[(rung.trials["state"] == "COMPLETE") & rung.trials["feasible"]]
        rows = without_higher(complete, above)
        if len(rows):
            members = rung.front["number"][rung.front["on_front"]]
            found.append((rung.fidelity, rows.assign(on_front=rows["number"].isin(members))))
    return found


def plane_of(objectives: Sequence[Objective]) -> tuple[Objective, Objective]:
    """Which of two or more objectives lies across and which up: the first minimised one, and the first other."""
    across = next((objective for objective in objectives if objective.direction == "minimize"), objectives[1])
    return across, next(objective for objective in objectives if objective is not across)


def axis_label(objective: Objective, trials: pd.DataFrame) -> str:
    """The quantity with its unit, and the device it was measured on or predicted for, where it has one."""
    heading = quantity(objective.name).heading.replace("Top-1", "Top-1 accuracy").replace("Top-5", "Top-5 accuracy")
    devices, kinds = (_distinct(trials, f"{objective.name}_{end}") for end in ("device", "kind"))
    device = objective.device if not devices else devices[0] if len(devices) == 1 else f"{len(devices)} devices"
    if "predicted" in kinds:
        return f"{heading}, {'partly ' if len(kinds) > 1 else ''}predicted for {objective.device}"
    return f"{heading} on {device}" if device else heading


def _distinct(trials: pd.DataFrame, column: str) -> list[str]:
    return sorted(trials[column].dropna().unique()) if column in trials else []


def _font() -> str:
    """The first installed one: matplotlib logs a warning for each text in a font that is not there."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return next((font for font in _FONTS if font in installed), "sans-serif")


def _say_there_is_no_front(axes: Axes, trials: pd.DataFrame, objectives: Sequence[Objective]) -> None:
    axes.set_axis_off()
    found = nearest_miss(complete_trials(trials, objectives))
    nothing = [f"No front: of {len(trials)} trials none is complete, feasible and measured in every objective."]
    text = "\n".join(textwrap.fill(line, 60) for line in (miss_lines(found) if found else nothing))
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#444444", fontsize=11)


def _draw_ranking(axes: Axes, trials: pd.DataFrame, objective: Objective) -> None:
    shown = quantity(objective.name)
    complete = complete_trials(trials, [objective]).sort_values("number")
    values = complete[objective.name] * shown.scale
    feasible = complete["feasible"]
    best = values.where(feasible)
    best = (best.cummin() if objective.direction == "minimize" else best.cummax()).ffill()
    axes.scatter(complete["number"][feasible], values[feasible], s=16, color=GREY, alpha=0.6, lw=0, label="trial")
    _draw_infeasible(axes, complete["number"][~feasible], values[~feasible])
    axes.step(complete["number"], best, where="post", color=BLUE, lw=1.6, label="best so far")
    anchors = complete[complete["anchor"].notna()]
    marked = complete.assign(x=complete["number"], y=values)[complete["anchor"].notna() | (feasible & (values == best))]
    _draw_error_bars(axes, marked, yerr=objective)
    _draw_anchors(axes, anchors["number"], values[anchors.index])
    texts = [anchor_label(anchor) for anchor in anchors["anchor"]]
    axes.set(xlabel="Trial", ylabel=axis_label(objective, complete))
    axes.margins(0.05)
    _draw_legend(axes)
    place_labels(axes, list(zip(anchors["number"], values[anchors.index], texts, strict=True)), color=VERMILION)


def _draw_plane(axes: Axes, complete: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]) -> None:
    across, up = plane_of(objectives)
    x_scale, y_scale = quantity(across.name).scale, quantity(up.name).scale
    points = complete.assign(x=complete[across.name] * x_scale, y=complete[up.name] * y_scale)
    rows = front.assign(x=front[across.name] * x_scale, y=front[up.name] * y_scale)
    members, anchors = rows[rows["on_front"]], rows[rows["anchor"].notna()]

    _set_limits(axes, points, rows, (across, up))
    feasible = points["feasible"]
    axes.scatter(points["x"][feasible], points["y"][feasible], s=15, color=GREY, alpha=0.4, lw=0, label="trial")
    _draw_infeasible(axes, points["x"][~feasible], points["y"][~feasible])
    _draw_published_family(axes, anchors)
    # Three objectives' front has no border in the plane of two.
    border = _draw_front_line(axes, members, (across, up)) if len(objectives) == 2 else []
    _draw_members(axes, members, [objective for objective in objectives if objective not in (across, up)])
    _draw_error_bars(axes, rows, xerr=across, yerr=up)
    _draw_anchors(axes, anchors["x"], anchors["y"])
    best = members[members["number"] == knee(front, objectives)].iloc[0]
    axes.plot(best["x"], best["y"], "*", ms=13, color=GREEN, mec="white", mew=0.8, zorder=6, ls="", label="knee")

    axes.set(xlabel=axis_label(across, complete), ylabel=axis_label(up, complete))
    axes.grid(color="#E6E6E6", lw=0.6)
    axes.set_axisbelow(True)
    _draw_legend(axes)
    drawn = anchors[np.isfinite(anchors[["x", "y"]]).all(axis=1)]
    texts = [anchor_label(anchor) for anchor in drawn["anchor"]]
    points_of_front = list(zip(members["x"], members["y"], strict=True))
    place_labels(
        axes,
        list(zip(drawn["x"], drawn["y"], texts, strict=True)),
        color=VERMILION,
        around=[*points_of_front, *border],
    )


def _draw_strip(axes: Axes, name: str, rows: pd.DataFrame, objectives: Sequence[Objective]) -> None:
    """Trials that only a lower fidelity has: values of another training, so on their own scale."""
    across, up = plane_of(objectives)
    ordered = rows.assign(x=rows[across.name] * quantity(across.name).scale, y=rows[up.name] * quantity(up.name).scale)
    ordered = ordered.sort_values("x")
    members = ordered[ordered["on_front"]]
    axes.plot(ordered["x"], ordered["y"], "s", color=GREY, ms=4, alpha=0.6)
    axes.plot(members["x"], members["y"], ":", color=GREY, lw=1)
    _draw_error_bars(axes, members, xerr=across, yerr=up)
    low, high = axes.get_xlim()  # of the picture above
    _say_how_many_lie_outside(axes, int((~ordered["x"].between(low, high)).sum()), y=1.0)
    axes.set_ylabel(f"at {name} only")
    axes.margins(y=0.2)
    axes.grid(color="#E6E6E6", lw=0.6)
    axes.set_axisbelow(True)


def _label_below(axes: Axes, strips: Sequence[Axes]) -> None:
    """The label of the shared axis under the last of the panels."""
    if strips:
        strips[-1].set_xlabel(axes.get_xlabel())
        axes.set_xlabel("")


def _draw_infeasible(axes: Axes, x: pd.Series[float], y: pd.Series[float]) -> None:
    if len(x):
        axes.scatter(x, y, s=15, facecolors="none", edgecolors=GREY, alpha=0.6, lw=0.8, label="breaks a constraint")


def _draw_anchors(axes: Axes, x: pd.Series[float], y: pd.Series[float]) -> None:
    if len(x):
        axes.plot(x, y, "D", ms=5.5, color=VERMILION, mec="white", mew=0.7, ls="", zorder=5, label="published")


def _draw_published_family(axes: Axes, anchors: pd.DataFrame) -> None:
    family = anchors[anchors["anchor"].isin(PUBLISHED_FAMILY)].sort_values("anchor")
    if len(family) > 1:
        axes.plot(family["x"], family["y"], color=VERMILION, lw=1, ls=(0, (4, 3)), zorder=2)


def _draw_front_line(
    axes: Axes, members: pd.DataFrame, plane: tuple[Objective, Objective]
) -> list[tuple[float, float]]:
    """Draw the border of what the front dominates, to the edges of the picture; returns points along it."""
    ordered = members.iloc[np.argsort(loss_matrix(members, plane)[:, 0])]
    x, y = ordered["x"].to_numpy(), ordered["y"].to_numpy()
    worst_x = _worse_end(axes.get_xlim(), plane[0])
    worst_y = _worse_end(axes.get_ylim(), plane[1])
    axes.plot([x[0], x[0]], [worst_y, y[0]], color=BLUE, lw=0.8, alpha=0.45, zorder=3)
    axes.plot([x[-1], worst_x], [y[-1], y[-1]], color=BLUE, lw=0.8, alpha=0.45, zorder=3)
    axes.plot(x, y, drawstyle="steps-post", color=BLUE, lw=1.6, zorder=3)
    return sample_polyline(np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1])


def _draw_members(axes: Axes, members: pd.DataFrame, others: Sequence[Objective]) -> None:
    if not others:
        axes.plot(
            members["x"], members["y"], "o", ms=5, color=BLUE, mec="white", mew=0.7, ls="", zorder=4, label="front"
        )
        return
    shown = quantity(others[0].name)
    colors = members[others[0].name] * shown.scale
    drawn = axes.scatter(
        members["x"], members["y"], c=colors, cmap="viridis", s=30, ec="white", lw=0.7, zorder=4, label="front"
    )
    assert axes.figure is not None
    axes.figure.colorbar(drawn, ax=axes, label=shown.heading)


def _draw_error_bars(axes: Axes, rows: pd.DataFrame, **plane: Objective) -> None:
    """± one standard error of front members and anchors, where it is known."""
    errors: dict[str, Any] = {}
    for key, objective in plane.items():
        column = f"{objective.name}_spread"
        if column in rows and rows[column].notna().any():
            errors[key] = rows[column].astype(float).fillna(0) * quantity(objective.name).scale
    if errors:
        axes.errorbar(
            rows["x"], rows["y"], **errors, fmt="none", ecolor="#999999", elinewidth=0.9, capsize=2, zorder=2.5
        )


def _set_limits(axes: Axes, points: pd.DataFrame, rows: pd.DataFrame, plane: tuple[Objective, Objective]) -> None:
    """Frame front and anchors; the other trials as far as they lie within half as much beyond."""
    inside = np.ones(len(points), dtype=bool)
    for name, objective in zip("xy", plane, strict=True):
        set_limits = axes.set_xlim if name == "x" else axes.set_ylim
        finite = rows[np.isfinite(rows[name])]
        bars = finite.get(f"{objective.name}_spread", finite[name] * 0).fillna(0) * quantity(objective.name).scale
        framed = np.concatenate([finite[name] - bars, finite[name] + bars])
        span = framed.max() - framed.min() or abs(framed.max()) or 1.0
        values = points[name].to_numpy(dtype=float)
        low = min(framed.min(), max(framed.min() - span / 2, np.nanmin(values)))
        high = max(framed.max(), min(framed.max() + span / 2, np.nanmax(values)))
        margin = 0.06 * (high - low or span)
        set_limits(low - margin, high + margin)
        inside &= (values >= low - margin) & (values <= high + margin)
    _say_how_many_lie_outside(axes, int((np.isfinite(points["x"]) & np.isfinite(points["y"]) & ~inside).sum()), y=-0.1)


def _say_how_many_lie_outside(axes: Axes, outside: int, *, y: float) -> None:
    if outside:
        text = f"{outside} {'trial lies' if outside == 1 else 'trials lie'} outside"
        axes.text(1.0, y, text, transform=axes.transAxes, fontsize=7, color="#666666", ha="right", va="top")


def _worse_end(limits: tuple[float, float], objective: Objective) -> float:
    return limits[1] if objective.direction == "minimize" else limits[0]


def _draw_legend(axes: Axes) -> None:
    """In a line above the picture: inside, an anchor may lie in any corner, however bad."""
    columns = len(axes.get_legend_handles_labels()[0])
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderaxespad=0.1, columnspacing=1.0)

"""front.png: the front as a printed figure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from starsearch.objective import IMAGENET_TOP1, LATENCY, Objective
from starsearch.pareto import non_dominated
from starsearch.quantities import quantity
from starsearch.report.front import errors_of, ranked_values
from starsearch.report.summary import miss_lines
from starsearch.report.table import anchor_label
from starsearch.report.view import StudyView
from starsearch.resources import shipped_names

# Okabe and Ito's colours, told apart with every common colour vision deficiency (jfly.uni-koeln.de/color).
BLUE, VERMILION, GREEN, GREY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#8A8A8A", "#A0568B"

Plane = tuple[Objective | None, Objective]  # which lies across (None: the trials' numbers), and which up

# The published sizes of one family, drawn as the line a searched front has to beat.
PUBLISHED_FAMILY = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")
BREAKS = "published, breaks a constraint"
OVERTAKEN = "† no longer a frontier point: a peer is faster, and its published top-1 higher"

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.titlesize": 9.5,
    "grid.color": "#E6E6E6",
    "legend.fontsize": 8,
    "legend.edgecolor": "none",
}


def draw_front(view: StudyView, *, title: str) -> Figure:
    """Return the study's trials, front, anchors and knee as a matplotlib figure of 6.4 × 4.2 inches.

    The first minimised objective lies across, the first other one up; a third is seen by colour. With one objective
    the trials are drawn in order of number, with the best so far. Trials that lie more than half the range of front and
    anchors beyond them are left outside, and counted.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", pad=28)  # above the legend, which may be as wide as the picture
        if view.has_front:
            _draw(axes, view)
        else:
            axes.set_axis_off()
            nothing = [f"No front: of {len(view.trials)} trials none is complete, feasible and measured."]
            text = "\n".join(textwrap.fill(line, 60) for line in miss_lines(view.summary) or nothing)
            axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#444444", size=11)
    return figure


def plane_of(objectives: Sequence[Objective]) -> Plane:
    """Return which objective lies across (None: the trials' numbers) and which up."""
    if len(objectives) == 1:
        return None, objectives[0]
    across = next((objective for objective in objectives if objective.direction == "minimize"), objectives[1])
    return across, next(objective for objective in objectives if objective is not across)


def axis_label(objective: Objective | None, trials: pd.DataFrame) -> str:
    """Return the quantity with its unit, and the device it was measured on or predicted for, if any."""
    if objective is None:
        return "Trial"
    heading = quantity(objective.name).heading.replace("Top-1", "Top-1 accuracy").replace("Top-5", "Top-5 accuracy")
    columns = (f"{objective.name}_{end}" for end in ("device", "kind"))
    devices, kinds = (sorted(trials[one].dropna().unique()) if one in trials else [] for one in columns)
    if "estimated" in kinds:
        return f"{heading}, 90 % intervals"
    device = objective.device if not devices else devices[0] if len(devices) == 1 else f"{len(devices)} devices"
    if "predicted" in kinds:
        return f"{heading}, {'partly ' if len(kinds) > 1 else ''}predicted for {objective.device}"
    return f"{heading} on {device}" if device else heading


def placed(rows: pd.DataFrame, plane: Plane) -> pd.DataFrame:
    """Return rows by `x`, the best first, with `y` and the standard errors `dx` and `dy`, in the units shown.

    Of estimates `y` is the best guess, `up` and `down` lead to the ends of its interval (else `dy`), and `edge`, where
    the front runs, is what they are ranked by.
    """
    shown = {axis: quantity(one.name) for axis, one in zip("xy", plane, strict=True) if one is not None}
    columns: dict[str, Any] = {axis: rows[one.name] * one.scale for axis, one in shown.items()}
    columns |= {f"d{axis}": errors_of(rows, one.name) * one.scale for axis, one in shown.items()}
    up = shown["y"]
    columns |= {"edge": ranked_values(rows, up.name) * up.scale, "up": columns["dy"], "down": columns["dy"]}
    if f"{up.name}_kind" in rows:
        is_estimate = rows[f"{up.name}_kind"].eq("estimated")
        for name, end, sign in (("up", "high", 1), ("down", "low", -1)):
            bar = sign * (rows[f"{up.name}_{end}"] - rows[up.name]) * up.scale
            columns[name] = columns[name].mask(is_estimate, bar)
    best_first = plane[0] is None or plane[0].direction == "minimize"
    return rows.assign(x=rows["number"], dx=np.nan).assign(**columns).sort_values("x", ascending=best_first)


def best_so_far(points: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """Return the feasible points in order of number, `y` being the best value up to each."""
    ordered = points[points["feasible"]].sort_values("number")
    best = ordered["y"].cummin() if objective.direction == "minimize" else ordered["y"].cummax()
    return ordered.assign(y=best.ffill())


def peers_on(view: StudyView, plane: Plane) -> pd.DataFrame:
    """Return the peers as `x`, `dx` and `y`, the fastest first, where those are ImageNet top-1 over milliseconds.

    Those that no other peer beats in both have a `letter`. Of another plane there is no row.
    """
    across, up = (None if one is None else one.name for one in plane)
    is_imagenet = up == IMAGENET_TOP1 or (up == "top1_percent" and "imagenet" in view.spec.data)
    if view.peers is None or across != LATENCY or not is_imagenet:
        return pd.DataFrame(columns=["name", "x", "dx", "y", "letter"])
    columns = {"x": "latency_ms", "dx": "latency_std_error", "y": "top1_percent"}
    found = view.peers.assign(**{name: view.peers[column] for name, column in columns.items()})
    found = found.dropna(subset=["x", "y"]).sort_values("x", ignore_index=True)
    is_best = non_dominated(found[["x", "y"]].to_numpy(float) * [1, -1])
    letters = dict(zip(found.index[is_best], ascii_lowercase, strict=False))
    return found.assign(letter=[letters.get(row, "") for row in found.index])


def shipped_note(view: StudyView) -> str:
    """Return what is to be known of peers' shipped latencies: the command that measures them for the study."""
    profile = view.spec.profile_files.get(LATENCY)
    command = "starsearch peers"
    if profile and profile not in shipped_names("profiles"):
        command += f" --device {shlex.quote(profile)}"
    return f"Latencies of peers shipped with starsearch, from another machine; `{command}` measures them here"


def limits_on(view: StudyView, plane: Plane) -> list[tuple[float, str]]:
    """Return the upper bounds of what lies across, in the unit shown, each with its words ("limit 3 ms")."""
    shown = None if plane[0] is None else quantity(plane[0].name)
    highs = [one.high * shown.scale for one in view.spec.constraints if shown and one.name == shown.name and one.high]
    return [(high, f"limit {high:g} {shown.unit}".strip()) for high in highs if shown]


def anchor_labels(anchors: pd.DataFrame, peers: pd.DataFrame) -> list[str]:
    """Return the short names of placed anchors, with † where a peer is faster and its published top-1 higher."""
    return [
        anchor_label(name) + ("†" if ((peers["x"] < x) & (peers["y"] > y)).any() else "")
        for name, x, y in zip(anchors["anchor"], anchors["x"], anchors["y"], strict=True)
    ]


def _draw(axes: Axes, view: StudyView) -> None:
    plane = plane_of(view.objectives)
    points, rows = placed(view.complete, plane), placed(view.front, plane)
    members, anchors = rows[rows["on_front"]], rows[rows["anchor"].notna()]
    marked = pd.concat([members, anchors]).drop_duplicates("number")
    if plane[0] is not None:
        _frame(axes, points, marked)
    feasible, others = points[points["feasible"]], points[~points["feasible"] & points["anchor"].isna()]
    axes.scatter(feasible["x"], feasible["y"], s=15, color=GREY, alpha=0.4, lw=0, label="trial")
    if len(others):
        axes.scatter(others["x"], others["y"], s=15, fc="none", ec=GREY, alpha=0.6, lw=0.8, label="breaks a constraint")
    axes.errorbar(
        marked["x"], marked["y"], xerr=marked["dx"].fillna(0), yerr=marked[["down", "up"]].fillna(0).T,
        fmt="none", ecolor="#999999", elinewidth=0.9, capsize=2, zorder=2.5,
    )  # fmt: skip
    if plane[0] is None:
        best = best_so_far(points, plane[1])
        axes.step(best["x"], best["y"], where="post", color=BLUE, lw=1.6, label="best so far")
    else:
        _draw_members(axes, view, members, plane)
        family = anchors[anchors["anchor"].isin(PUBLISHED_FAMILY)].sort_values("anchor")
        if len(family):
            axes.plot(family["x"], family["y"], color=VERMILION, lw=1, ls=(0, (4, 3)), zorder=2, label="S1–S4")
    for label, face, edge in (("published", VERMILION, "white"), (BREAKS, "white", VERMILION)):
        if len(rows := anchors[anchors["feasible"] == (label == "published")]):
            axes.plot(rows["x"], rows["y"], "D", ms=5.5, mfc=face, mec=edge, zorder=5, ls="", label=label)
    for limit, label in limits_on(view, plane):
        if limit < axes.get_xlim()[1]:
            axes.axvline(limit, color="#444444", lw=0.9, ls=(0, (2, 2)), zorder=1.5, label=label)
    peers = peers_on(view, plane)
    known = anchors.dropna(subset=["x", "y"]).sort_values("x")
    names = anchor_labels(known, peers)
    _draw_peers(axes, peers, [OVERTAKEN] if any(name.endswith("†") for name in names) else [], shipped_note(view))
    axes.set(xlabel=axis_label(plane[0], points), ylabel=axis_label(plane[1], points))
    axes.grid(lw=0.6)
    axes.set_axisbelow(True)
    # In a line above the picture: inside, an anchor may lie in any corner, however bad.
    entries = len(axes.get_legend_handles_labels()[0])
    columns = min(entries, 5)
    if entries > columns:
        axes.set_title(axes.get_title(loc="left"), loc="left", pad=38)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, borderaxespad=0.1, columnspacing=1.0)
    _label(axes, known, names)


def _draw_members(axes: Axes, view: StudyView, members: pd.DataFrame, plane: Plane) -> None:
    others = [objective for objective in view.objectives if objective not in plane]
    if others:  # the front of three objectives has no border in the plane of two
        shown = quantity(others[0].name)
        colors = members[others[0].name] * shown.scale
        drawn = axes.scatter(members["x"], members["y"], c=colors, s=30, ec="white", lw=0.7, zorder=4, label="front")
        axes.get_figure(root=True).colorbar(drawn, ax=axes, label=shown.heading)  # type: ignore[union-attr]
    else:
        axes.plot(members["x"], members["edge"], color=BLUE, lw=1.6, drawstyle="steps-post", zorder=3)
        axes.plot(members["x"], members["y"], "o", ms=5, color=BLUE, mec="white", mew=0.7, zorder=4, label="front")
    best = members[members["number"] == view.knee]
    axes.plot(best["x"], best["y"], "*", ms=13, color=GREEN, mec="white", mew=0.8, zorder=6, ls="", label="knee")


def _frame(axes: Axes, points: pd.DataFrame, marked: pd.DataFrame) -> None:
    """Frame front and anchors with their errors; other trials as far as they lie within half as much beyond."""
    inside = points[["x", "y"]].notna().all(axis=1)
    known = int(inside.sum())
    for axis, set_limits in (("x", axes.set_xlim), ("y", axes.set_ylim)):
        down, up = (marked[name].fillna(0) for name in (("dx", "dx") if axis == "x" else ("down", "up")))
        low, high = np.nanmin(marked[axis] - down), np.nanmax(marked[axis] + up)
        span = high - low or abs(high) or 1.0
        near = points[axis][points[axis].between(low - span / 2, high + span / 2)]
        low, high = min(low, near.min()) - 0.06 * span, max(high, near.max()) + 0.06 * span
        set_limits(low, high)
        inside &= points[axis].between(low, high)
    if outside := known - int(inside.sum()):
        text = f"{outside} trial{' lies' if outside == 1 else 's lie'} outside"
        axes.text(1.0, -0.1, text, transform=axes.transAxes, fontsize=7, color="#666666", ha="right", va="top")


def _draw_peers(axes: Axes, peers: pd.DataFrame, notes: Sequence[str], shipped: str) -> None:
    """Draw what lies within the frame; the best are lettered, and named in the corner where the worst would be."""
    inside = peers[peers["x"].between(*axes.get_xlim()) & peers["y"].between(*axes.get_ylim())]
    if inside.empty:
        return
    axes.plot(inside["x"], inside["y"], "P", ms=5, color=PURPLE, mew=0, zorder=3.5, label="peers (timm)")
    for letter, x, y in zip(inside["letter"], inside["x"], inside["y"], strict=True):
        axes.annotate(letter, (x, y), xytext=(-2, 2), textcoords="offset points", ha="right", color=PURPLE, fontsize=7)
    named = inside[inside["letter"] != ""]
    lines = [f"{letter}  {name}" for letter, name in zip(named["letter"], named["name"], strict=True)]
    text = "\n".join([*lines, *notes, *([shipped] if inside["shipped"].any() else [])])
    axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", va="bottom", color=PURPLE, fontsize=6, zorder=1)


def _label(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Name the anchors below to the right, away from the front; the left one of two close ones on its other side."""
    places = axes.transData.transform(rows[["x", "y"]].to_numpy(float))
    to_next = np.abs(np.diff(places, axis=0, append=np.inf))
    for at, (x, y, name) in enumerate(zip(rows["x"], rows["y"], names, strict=True)):
        is_free = to_next[at, 0] > 60 or to_next[at, 1] > 40
        offset, ha, va = ((6, -4), "left", "top") if is_free else ((-6, 4), "right", "bottom")
        axes.annotate(
            name, (x, y), xytext=offset, textcoords="offset points", ha=ha, va=va, zorder=7,
            color=VERMILION, fontsize=8, fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip

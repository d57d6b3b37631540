"""report.html: one page that opens offline."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from starsearch.errors import StarsearchError, some
from starsearch.progress import duration_text
from starsearch.quantities import quantity
from starsearch.records.table import reading_names
from starsearch.report.analysis import PARAMETER, main_profile, stages
from starsearch.report.figures import (
    agreement_figures,
    front_figure,
    hypervolume_figures,
    importance_figures,
    prediction_figure,
)
from starsearch.report.front import anchor_recipe_note
from starsearch.report.plot import OVERTAKEN, peers_on, plane_of, shipped_note
from starsearch.report.summary import count_words, failure_reasons, hypervolume_gain, miss_lines, prediction_lines
from starsearch.report.table import architecture_name, front_rows, legend_lines, plain_rows, reading_text
from starsearch.report.view import StudyView

_TRIAL = ("number", "fidelity")  # what a point of the front carries


def render_page(view: StudyView, not_promoted: Sequence[tuple[str, pd.DataFrame]] = (), *, title: str) -> str:
    """Return the report as one HTML document that loads nothing from anywhere; all text of the study is escaped.

    `not_promoted` are, by lower fidelity, the rows of its front that have no higher result.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    figures = page_figures(view)
    nothing = ["No front: no trial is complete, feasible and measured in every objective."]
    environment = Environment(loader=PackageLoader("starsearch.report", "."), autoescape=True)
    environment.globals |= {
        "count_words": count_words,
        "front_rows": front_rows,
        "legend_lines": legend_lines,
        "overtaken": OVERTAKEN,
        "shipped_note": shipped_note,
        "peer_rows": lambda of: plain_rows(peers_on(of, plane_of(of.objectives))),
        "prediction_lines": prediction_lines,
        "quantity": quantity,
        "some": some,
    }
    data = {"figures": {name: _plain(figure) for name, figure in figures.items()}, **networks(view)}
    return environment.get_template("page.html").render(
        title=title,
        view=view,
        tiles=list(_tiles(view)),
        no_front=miss_lines(view.summary) or nothing,
        figures={name: figure.layout.height for name, figure in figures.items()},
        # The scripts are our own and plotly's; the data is base64, in which nothing can end an element.
        plotly=Markup(get_plotlyjs()) if len(view.complete) else "",  # noqa: S704
        data=base64.b64encode(gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0)).decode(),
        not_promoted=not_promoted,
        failures=[(at.fidelity, row) for at in (view, *view.lower) for row in plain_rows(failure_reasons(at.trials))],
        facts=study_facts(view),
    )


def page_figures(view: StudyView) -> dict[str, go.Figure]:
    """Return the page's figures by name; none without a front."""
    if not view.has_front:
        return {}
    figures = {"front": front_figure(view)}
    if view.estimated is not None:
        figures["estimated"] = front_figure(view.estimated)
    if measured := [name for name, found in view.predictions.items() if found["networks"]]:
        figures["predictions"] = prediction_figure(view.trials, measured)
    return figures | hypervolume_figures(view) | importance_figures(view) | agreement_figures(view)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Return a figure's JSON for the page, which colours it, and shows a card for a trial in place of its text."""
    figure.layout.template = None
    for trace in figure.data:
        if trace.customdata is not None and len(trace.customdata[0]) == len(_TRIAL):
            trace.update(hovertext=None, hovertemplate=None, hoverinfo="none")
    return dict(json.loads(figure.to_json()))


def networks(view: StudyView) -> dict[str, Any]:
    """Return what the page's script knows of each complete trial, column by column, ready for JSON.

    `shown` are texts, in their quantity's unit. `networks` holds each architecture once (`stages`), to which
    `trials.network` points; `cost` is what its layers' numbers are.
    """
    shown = view.estimated or view
    frames = [one.complete.assign(fidelity=one.fidelity) for one in (shown, *view.lower)]
    rows = [row for frame in frames for row in plain_rows(frame)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    quantities = [quantity(name) for name in reading_names(keys) if quantity(name).direction]
    dimensions = [key for key in keys if key.startswith(PARAMETER)]
    each = {row["architecture"]: row for row in rows}  # at each resolution
    places = {network: at for at, network in enumerate(each)}
    chances = shown.on_front_probability
    return {
        "quantities": [{"label": one.label, "unit": one.unit, "decimals": one.decimals} for one in quantities],
        "dimensions": [key.removeprefix(PARAMETER) for key in dimensions],
        "networks": [_stages(view, row) for row in each.values()],
        "cost": "MMACs" if main_profile(view) is None else "ms",
        "trials": {
            "number": [row["number"] for row in rows],
            "fidelity": [row["fidelity"] for row in rows],
            "text": [architecture_name(row) for row in rows],
            "feasible": [row["feasible"] for row in rows],
            "kept": [row.get("weights") is not None for row in rows],
            "network": [places[row["architecture"]] for row in rows],
            "chance": [
                chances.get(row["number"]) if row["fidelity"] == view.fidelity and row["feasible"] else None
                for row in rows
            ],
            "shown": [[reading_text(row, one) for row in rows] for one in quantities],
            "params": [[row.get(key) for row in rows] for key in dimensions],
        },
    }


def _stages(view: StudyView, row: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    try:
        return stages(view, row)
    except StarsearchError:  # a family that is not installed here, or a layer that the profile has no term for
        return []


def study_facts(view: StudyView) -> dict[str, str]:
    """Return what there is to know about a study besides its trials: its conditions, in words."""
    known, spec = view.attributes, view.spec
    conditions = known.get("conditions", {})
    facts = {
        "study": view.name,
        "data": conditions.get("data", spec.data),
        "device": conditions.get("device", ""),
        "fidelity": _listed(asdict(spec.fidelity)),
        "recipe": _listed(asdict(spec.recipe) | {"epochs": spec.fidelity.epochs or spec.recipe.epochs}),
        "space": _listed(spec.space.describe()),
        "constraints": _listed({one.name: one for one in spec.constraints}),
        "latency predicted from": _listed({name: one.device.text for name, one in spec.profiles.items()}),
        "sampler": known.get("sampler", spec.sampler),
        "seed": str(spec.seed),
        "starsearch": known.get("starsearch", ""),
        "successive halving": " ".join(view.halving).removeprefix("Successive halving "),
        "published networks": anchor_recipe_note(view.trials) or "",
    }
    return {name: words for name, words in facts.items() if words}


def _listed(values: Mapping[str, Any]) -> str:
    shown = ((name.removeprefix("space."), value) for name, value in values.items())
    return ", ".join(f"{name}: {value}" for name, value in shown if value is not None)


def _tiles(view: StudyView) -> Iterator[tuple[str, str]]:
    found = view.summary
    yield from ((f"{count}", words) for count, words in count_words(found))
    yield duration_text(found["seconds"]), "of evaluation"
    for name, best in found["best"].items():
        shown = quantity(name)
        value = f"{shown.with_spread(best['value'], best['spread'])} {shown.unit}"
        yield value, f"best {shown.label} (trial {best['number']})"
    if (gain := hypervolume_gain(found["hypervolume"])) is not None and len(view.objectives) > 1:
        yield f"{gain:+.1f} %", "hypervolume over the published networks alone"

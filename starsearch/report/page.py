"""report.html: one page that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from starsearch.errors import some
from starsearch.quantities import quantity
from starsearch.report.figures import front_figure, optuna_figures, prediction_figure
from starsearch.report.front import anchor_recipe_note
from starsearch.report.summary import failure_reasons, hypervolume_gain, miss_lines, prediction_lines
from starsearch.report.table import front_rows, legend_lines, plain_rows
from starsearch.report.view import StudyView


def render_page(view: StudyView, not_promoted: Sequence[tuple[str, pd.DataFrame]] = (), *, title: str) -> str:
    """Return the report as one HTML document that loads nothing from anywhere; all text of the study is escaped.

    `not_promoted` are, by lower fidelity, the rows of its front that have no higher result.
    """
    import plotly.graph_objects as go
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    figures: dict[str, go.Figure] = {}
    if view.has_front:
        figures["Front"] = front_figure(view)
        if view.estimated is not None:
            figures["Estimated"] = front_figure(view.estimated)
        if measured := [name for name, found in view.predictions.items() if found["networks"]]:
            figures["Predictions"] = prediction_figure(view.trials, measured)
        figures |= optuna_figures(view)
    nothing = ["No front: no trial is complete, feasible and measured in every objective."]
    environment = Environment(loader=PackageLoader("starsearch.report", "."), autoescape=True)
    environment.globals |= {
        "front_rows": front_rows,
        "legend_lines": legend_lines,
        "prediction_lines": prediction_lines,
        "some": some,
    }
    config = {"responsive": True, "displaylogo": False}
    return environment.get_template("page.html").render(
        title=title,
        view=view,
        tiles=list(_tiles(view)),
        no_front=miss_lines(view.miss) if view.miss else nothing,
        # Plotly writes "<" of texts in JSON as an escape. Its script is embedded once.
        figures={
            name: Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config))  # noqa: S704
            for name, figure in figures.items()
        },
        plotly=Markup(get_plotlyjs()) if figures else "",  # noqa: S704
        not_promoted=not_promoted,
        failures=plain_rows(failure_reasons(view.trials)),
        facts=study_facts(view),
    )


def study_facts(view: StudyView) -> dict[str, str]:
    """Return what there is to know about a study besides its trials: its conditions, in words."""
    known, spec = view.attributes, view.spec
    conditions = known.get("conditions", {})
    facts = {
        "study": view.name,
        "data": conditions.get("data", spec.data),
        "device": conditions.get("device", ""),
        "fidelity": _listed(asdict(spec.fidelity)),
        "recipe": _listed(asdict(spec.recipe)),
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
    yield f"{found['complete']}", "complete trials"
    yield f"{found['failed']}", "failed"
    yield f"{found['infeasible']}", "break a constraint"
    yield _duration(found["seconds"]), "of evaluation"
    for name, best in found["best"].items():
        shown = quantity(name)
        value = f"{shown.with_spread(best['value'], best['spread'])} {shown.unit}"
        yield value, f"best {shown.label} (trial {best['number']})"
    if found["foreign"]:
        yield f"{found['foreign']}", "foreign (of other programs)"
    if (gain := hypervolume_gain(found["hypervolume"])) is not None and len(view.objectives) > 1:
        yield f"{gain:+.1f} %", "hypervolume over the published networks alone"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"

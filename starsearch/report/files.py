"""The files of a report: trials.csv, front.csv, front.png and report.html, each written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from starsearch.files import written_whole
from starsearch.report.agreement import candidate_keys
from starsearch.report.page import render_page
from starsearch.report.plot import draw_front
from starsearch.report.view import StudyView


def write_report(view: StudyView, folder: Path) -> list[Path]:
    """Write trials.csv, front.csv, front.png and report.html into `folder`, and return their paths."""
    title = _title(view)
    picture = io.BytesIO()
    draw_front(view, title=title).savefig(picture, format="png")
    pictures = {"front.png": picture}
    if view.estimated is not None:
        pictures["estimated.png"] = io.BytesIO()
        drawn = draw_front(view.estimated, title=f"{title} · ImageNet top-1 estimated, not trained")
        drawn.savefig(pictures["estimated.png"], format="png")
    contents = {
        "trials.csv": all_trials(view).to_csv(index=False).encode(),
        "front.csv": whole_front(view).to_csv(index=False).encode(),
        **{name: one.getvalue() for name, one in pictures.items()},
        "report.html": report_page(view).encode(),
    }
    advice = (
        "The trials are safe in the study's storage: make room, or give a folder that can be written to, and write the "
        "report again."
    )
    for name, content in contents.items():
        with written_whole(folder / name, advice=advice) as partial:
            partial.write_bytes(content)
    return [folder / name for name in contents]


def report_page(view: StudyView) -> str:
    """Return report.html."""
    return render_page(view, not_promoted(view), title=_title(view))


def _title(view: StudyView) -> str:
    """Return study, data set and fidelity; the data set by its name alone."""
    study = view.lower[-1].name if view.lower else view.name
    return f"{study} · {view.spec.data.partition(':')[0]} · {view.fidelity}"


def not_promoted(view: StudyView) -> list[tuple[str, pd.DataFrame]]:
    """Return by lower fidelity the rows of its front whose candidates have no result at the next higher one."""
    found, above = [], view
    for lower in view.lower:
        promoted = set(candidate_keys(above.trials[above.trials["state"] == "COMPLETE"]))
        found.append((lower.fidelity, lower.front[~candidate_keys(lower.front).isin(promoted)]))
        above = lower
    return found


def all_trials(view: StudyView) -> pd.DataFrame:
    """Return the trials of every fidelity, the lowest first, with `study` to tell equal numbers apart."""
    if not view.lower:
        return view.trials
    return _stack([one.trials.assign(study=one.name) for one in (*reversed(view.lower), view)])


def whole_front(view: StudyView) -> pd.DataFrame:
    """Return the front, then those of the lower fidelities that were not promoted, with `fidelity`.

    `on_front`, `rank` and gains are those at the row's fidelity.
    """
    if not view.lower:
        return view.front
    return _stack([front.assign(fidelity=name) for name, front in [(view.fidelity, view.front), *not_promoted(view)]])


def _stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return frames one below another; a column that a frame lacks is empty there."""
    columns = list(dict.fromkeys(column for frame in frames for column in frame))
    # Filled by object columns: pandas would warn of guessing the type of empty ones.
    filled = [frame.reindex(columns=columns).astype(object) for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True).infer_objects()

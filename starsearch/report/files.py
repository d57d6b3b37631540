"""The files of a report, each written whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.errors import StudyError
from starsearch.objective import Objective
from starsearch.report.fidelities import Rung, all_trials, whole_front
from starsearch.report.front import front_table
from starsearch.report.html import render_page
from starsearch.report.plot import draw_front

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.report.agreement import Agreement


def write_report(
    folder: Path,
    trials: pd.DataFrame,
    objectives: Sequence[Objective],
    facts: Mapping[str, str],
    *,
    commands: Sequence[str] = (),
    lower: Sequence[Rung] = (),
    agreements: Sequence[Agreement] = (),
) -> list[Path]:
    """Write trials.csv, front.csv, front.png and report.html into `folder`, replacing what is there.

    Args:
        folder: made if need be.
        trials: the study's, one row each, of one fidelity: the highest that has a result.
        objectives: the study's; at least one.
        facts: shown on the page in this order; "study" names the study, else the folder does.
        commands: that repeat the study.
        lower: the study at its lower fidelities, the nearest first.
        agreements: how far they can be trusted.

    Returns:
        The files, in the order above.

    Raises:
        StudyError: the trials are of several fidelities, or the folder cannot be written to.
    """
    title = _title(facts.get("study", folder.name), trials)
    front = front_table(trials, objectives)
    page = render_page(
        trials,
        objectives,
        facts,
        title=title,
        commands=commands,
        lower=lower,
        agreements=agreements,
    )
    contents = {
        "trials.csv": all_trials(trials, lower).to_csv(index=False).encode(),
        "front.csv": whole_front(front, trials, lower).to_csv(index=False).encode(),
        "front.png": _png(trials, objectives, title, lower),
        "report.html": page.encode(),
    }
    return [_write_whole(folder / name, content) for name, content in contents.items()]


def _png(trials: pd.DataFrame, objectives: Sequence[Objective], title: str, lower: Sequence[Rung]) -> bytes:
    target = io.BytesIO()
    draw_front(trials, objectives, title=title, lower=lower).savefig(target, format="png")
    return target.getvalue()


def _title(study: str, trials: pd.DataFrame) -> str:
    """Study, data set and fidelity; the data set by its name alone."""
    parts = [study]
    for column in ("data", "fidelity"):
        known = sorted(trials[column].dropna().unique()) if column in trials else []
        if len(known) == 1:
            parts.append(str(known[0]).partition(":")[0])
    return " · ".join(parts)


def _write_whole(path: Path, content: bytes) -> Path:
    """Write beside `path` and rename, so that no reader and no crash ever sees half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise StudyError(
            f"Cannot write {path}: {error.strerror or error}. The trials are safe in the study's storage; "
            "make room or give a folder that can be written to, and write the report again."
        ) from error
    return path

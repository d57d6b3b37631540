"""What a run keeps on the study's page in optuna-dashboard: how far it is, the front, why trials failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from starsearch.errors import StudyLeasedError
from starsearch.search.events import Event, StudyEnded, StudyStarted, TrialEnded

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.records import StudyRecord
    from starsearch.study.spec import StudySpec

_logger = logging.getLogger(__name__)

_EVERY_S = 30.0
# Of the time that passes, for a study whose table takes long to draw.
_SHARE = 0.02
_MAX_REASONS = 10
# The dashboard's card for a picture; what is higher is cut off, its axis first.
_PICTURE_HEIGHT_PX = 440


class DashboardPage:
    """Watches a run, and writes its page now and then and at the end.

    Args:
        spec: of the study.
        record: of the same study, under the driver's lease.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, spec: StudySpec, record: StudyRecord, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec = spec
        self._record = record
        self._clock = clock
        self._next = clock() + _EVERY_S
        self._wanted = 0

    def __call__(self, event: Event) -> None:
        """Write the page, if it is time.

        Raises:
            StudyLeasedError: the study is another driver's now.
        """
        if isinstance(event, StudyStarted):
            self._wanted = event.wanted
        elif isinstance(event, StudyEnded) or (isinstance(event, TrialEnded) and self._clock() >= self._next):
            began = self._clock()
            try:
                self._write()
            except StudyLeasedError:
                raise
            except Exception as error:  # a page less is no reason to end a study
                _logger.warning("The study's page in the dashboard is not up to date: %s", error)
            took = self._clock() - began
            self._next = self._clock() + max(_EVERY_S, took / _SHARE)

    def _write(self) -> None:
        from starsearch.records import attach_to_dashboard, load_trials
        from starsearch.report import front_table
        from starsearch.report.figures import front_figure

        trials = load_trials(self._record.url, self._spec.name)
        front = front_table(trials, self._spec.objectives)
        has_front = bool(front["on_front"].any())
        picture = None
        if has_front:
            picture = front_figure(trials, self._spec.objectives).update_layout(height=_PICTURE_HEIGHT_PX)
        attach_to_dashboard(self._record, note=self._note(trials, front), picture=picture)

    def _note(self, trials: pd.DataFrame, front: pd.DataFrame) -> str:
        from starsearch.records import HALVING
        from starsearch.report import failure_reasons, halving_lines

        states = trials["state"].value_counts()
        counts = ", ".join(f"{count} {str(state).lower()}" for state, count in states.items())
        name, members = self._spec.name, int(front["on_front"].sum())
        lines = [f"**{name}**: {self._wanted} candidates wanted; trials: {counts or 'none'}; {members} on the front."]
        lines += halving_lines(trials, self._record.attribute(HALVING))
        reasons = failure_reasons(trials).head(_MAX_REASONS)
        if len(reasons):
            lines.append("| failed | trials | reason |\n|---|---|---|")
            lines[-1] += "".join(
                f"\n| {count} | {_numbers(numbers)} | {_cell(reason)} |"
                for reason, count, numbers in reasons[["reason", "count", "numbers"]].itertuples(index=False, name=None)
            )
        return "\n\n".join(lines)


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:5])
    return shown + (" …" if len(numbers) > 5 else "")


def _cell(text: str) -> str:
    """In a row of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")

"""`LiveView`: what a run shows while it runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starsearch.objective import Objective, losses
from starsearch.report.labels import quantity
from starsearch.search.events import (
    Event,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialProgressed,
    TrialStarted,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID
    from rich.table import Table

_REFRESHES_A_SECOND = 4
_FRONT_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A complete trial as the live front needs it; `values` and `losses` are in the objectives' order."""

    number: int
    name: str
    is_anchor: bool
    values: tuple[float, ...]
    spreads: tuple[float | None, ...]
    losses: tuple[float, ...]


class LiveView:
    """Shows a run's events: a bar, the trials under way, and the front so far; without a terminal a line a trial.

        with LiveView(objectives) as view:
            run_study(..., watch=view)

    Args:
        objectives: the study's; they make the front.
        title: shown above.
        console: where to; None for stdout.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        title: str = "",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._objectives = tuple(objectives)
        self._title = title
        self._console = console or Console(highlight=False)
        self._overall = _overall_bar(self._console, clock)
        self._trials = _trial_bars(self._console, clock)
        self._overall_task: TaskID | None = None
        self._trial_tasks: dict[int, TaskID] = {}
        self._readings: dict[int, str] = {}
        self._seconds: list[float] = []
        self._front: list[_Row] = []
        self._finished = self._wanted = self._failed = 0
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=_REFRESHES_A_SECOND,
            # The end of the run prints the whole front; a frozen copy of the live one would stand above it.
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        elif self._title:
            self._say(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        match event:
            case StudyStarted():
                self._study_started(event)
            case TrialStarted():
                self._trial_started(event)
            case TrialProgressed():
                self._trial_progressed(event)
            case TrialEnded():
                self._trial_ended(event)
            case StudyEnded():
                self._finished, self._wanted = event.finished, event.wanted
                self._update_overall()

    def _study_started(self, event: StudyStarted) -> None:
        self._finished, self._wanted = event.finished, event.wanted
        for trial in event.earlier:
            self._take_note(trial)
        if self._overall_task is None:
            self._overall_task = self._overall.add_task("trials", total=event.wanted, left="")
        self._update_overall()
        if event.resumed:
            self._say(f"Going on: {event.finished} of {event.wanted} trials are there.")

    def _trial_started(self, event: TrialStarted) -> None:
        candidate = event.candidate
        name = candidate.anchor or _architecture_text(candidate.architecture)
        description = f"trial {event.number}  {name}"
        self._trial_tasks[event.number] = self._trials.add_task(description, total=1.0, doing="")

    def _trial_progressed(self, event: TrialProgressed) -> None:
        task = self._trial_tasks.get(event.number)
        if task is None:
            return
        progress = event.progress
        if progress.epoch is not None:
            top1 = progress.values.get("top1_percent", math.nan)
            self._readings[event.number] = f"epoch {progress.epoch}, top-1 {quantity('top1_percent').number(top1)} %"
        reading = self._readings.get(event.number, "")
        doing = f"{progress.stage}, {reading}" if reading else progress.stage
        self._trials.update(task, completed=progress.fraction, doing=doing)

    def _trial_ended(self, event: TrialEnded) -> None:
        task = self._trial_tasks.pop(event.number, None)
        self._readings.pop(event.number, None)
        if task is not None:
            self._trials.remove_task(task)
        self._take_note(event)
        if event.state == "complete":
            self._finished += 1
        else:
            self._failed += 1
        self._update_overall()
        if event.state == "fail" or not self._console.is_terminal:
            self._say(self._line_of(event))

    def _take_note(self, event: TrialEnded) -> None:
        self._seconds.append(event.seconds)
        if event.state == "complete" and event.feasible:
            self._front = _front_with(self._front, _row_of(event, self._objectives))

    def _update_overall(self) -> None:
        if self._overall_task is None:
            return
        left = _time_left(self._seconds, self._wanted - self._finished)
        failed = f", {self._failed} failed" if self._failed else ""
        self._overall.update(
            self._overall_task, completed=self._finished, total=max(self._wanted, 1), left=f"{left}{failed}"
        )

    def _line_of(self, event: TrialEnded) -> str:
        name = event.candidate.anchor or _architecture_text(event.candidate.architecture)
        head = f"[{self._finished}/{self._wanted}] trial {event.number}"
        if event.state == "fail":
            return f"{head} failed: {event.reason} ({name})"
        row = _row_of(event, self._objectives)
        values = ", ".join(_reading(row, i, objective) for i, objective in enumerate(self._objectives))
        note = "" if event.feasible else ", breaks a constraint"
        return f"{head} {values}{note}, {event.seconds:.0f} s  {name}"

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self._title, style="bold")] if self._title else []
        parts += [self._overall, self._trials]
        if self._front:
            parts.append(_front_table(self._front, self._objectives))
        return Group(*parts)


def _overall_bar(console: Console, clock: Callable[[], float]) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    return Progress(*columns, console=console, get_time=clock)


def _trial_bars(console: Console, clock: Callable[[], float]) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    columns = (
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f} %", markup=False, table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[doing]}", markup=False, table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, get_time=clock, expand=True)


def _architecture_text(architecture: object) -> str:
    from starsearch.architecture import Architecture, format_architecture

    assert isinstance(architecture, Architecture)
    return format_architecture(architecture)


def _row_of(event: TrialEnded, objectives: Sequence[Objective]) -> _Row:
    measured = {measurement.name: measurement for measurement in event.measurements}
    values = {o.name: measured[o.name].value if o.name in measured else math.nan for o in objectives}
    return _Row(
        number=event.number,
        name=event.candidate.anchor or _architecture_text(event.candidate.architecture),
        is_anchor=event.candidate.anchor is not None,
        values=tuple(values.values()),
        spreads=tuple(measured[o.name].spread if o.name in measured else None for o in objectives),
        losses=losses(values, objectives),
    )


def _front_with(front: Sequence[_Row], row: _Row) -> list[_Row]:
    """The front once `row` is complete, best in the last objective first; what lacks a value stays out."""
    import numpy as np

    from starsearch.pareto import non_dominated

    rows = [*front, row]
    values = np.array([row.losses for row in rows], dtype=float)
    stays = non_dominated(values) & np.isfinite(values).all(axis=1)
    return sorted((row for row, stay in zip(rows, stays, strict=True) if stay), key=lambda row: row.losses[::-1])


def _reading(row: _Row, i: int, objective: Objective) -> str:
    shown = quantity(objective.name)
    return f"{shown.label.lower()} {shown.with_spread(row.values[i], row.spreads[i])} {shown.unit}".rstrip()


def _front_table(front: Sequence[_Row], objectives: Sequence[Objective]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column("Trial", justify="right", no_wrap=True)
    table.add_column("Front so far", no_wrap=True, overflow="ellipsis", ratio=1)
    for objective in objectives:
        table.add_column(quantity(objective.name).heading, justify="right", no_wrap=True)
    shown = _evenly(front, _FRONT_ROWS)
    for row in shown:
        cells = [
            quantity(objective.name).with_spread(row.values[i], row.spreads[i])
            for i, objective in enumerate(objectives)
        ]
        name = Text(row.name, style="bold" if row.is_anchor else "")
        table.add_row(str(row.number), name, *cells)
    if len(shown) < len(front):
        table.caption = f"{len(front)} trials on the front; {len(shown)} of them shown."
    return table


def _evenly(front: Sequence[_Row], limit: int) -> list[_Row]:
    """At most `limit` rows, both ends among them, evenly chosen."""
    if len(front) <= limit:
        return list(front)
    return [front[round(i * (len(front) - 1) / (limit - 1))] for i in range(limit)]


def _time_left(seconds: Sequence[float], missing: int) -> str:
    """Text like "about 12 min left", from the median of the trials that have ended; "" where none has."""
    if not seconds or missing <= 0:
        return ""
    left = statistics.median(seconds) * missing
    if left < 90:
        return f"about {left:.0f} s left"
    return f"about {left / 60:.0f} min left" if left < 5400 else f"about {left / 3600:.1f} h left"

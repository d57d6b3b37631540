"""What commands show while they work: `LiveView` a study's run, `bar` anything else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from starsearch.cli.live_front import FrontRow, candidate_name, front_table, front_with, reading_text, row_of
from starsearch.measurement import prediction_error_percent
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress
from starsearch.quantities import quantity
from starsearch.search.events import (
    Event,
    FrontProgressed,
    MemberMeasured,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialProgressed,
    TrialStarted,
)
from starsearch.trial import Trial

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_REFRESHES_A_SECOND = 4


def doing(progress: Progress) -> str:
    """Return what is being done; while a latency is measured, how many pairs of runs there are."""
    pairs = progress.values.get("pairs")
    return progress.stage if pairs is None else f"{progress.stage}, {pairs:.0f} pairs"


@contextmanager
def bar(
    describe: Callable[[Progress], str] = doing, *, console: Console | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Show progress as a bar that disappears at the end; nothing where no terminal reads it.

    Args:
        describe: returns the words beside the bar.
        console: to print lines above the bar with; a console of stderr where it is left out.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task: TaskID | None = None

        def watch(progress: Progress) -> None:
            nonlocal task
            if task is None:  # its clock begins now: what a resumed training did before says nothing of the time left
                task = bars.add_task("", total=1.0)
            bars.update(task, completed=progress.fraction, description=describe(progress))

        yield watch


class LiveView:
    """Shows a run's events: a bar, the trials under way, and the front so far; without a terminal a line a trial.

        with LiveView(objectives) as view:
            run_study(..., watch=view)

    Args:
        objectives, constraints: the study's; they make the front.
        title: shown above.
        console: where to; None for stdout.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        *,
        title: str = "",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._title = title
        self._console = console or Console(highlight=False)
        self._overall = _overall_bar(self._console, clock)
        self._trials = _trial_bars(self._console, clock)
        self._overall_task: TaskID | None = None
        self._trial_tasks: dict[int, TaskID] = {}
        self._front_task: TaskID | None = None
        self._readings: dict[int, str] = {}
        self._judged: set[str] = set()  # candidates, each once, however many trials its training was made of
        self._clock = clock
        self._started = clock()
        self._found = 0
        self._front: list[FrontRow] = []
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
            case FrontProgressed():
                self._front_progressed(event)
            case MemberMeasured():
                if event.measurement is None or not self._console.is_terminal:
                    self._say(_line_of_measured(event))
            case StudyEnded():
                self._finished, self._wanted = event.finished, event.wanted
                self._update_overall()

    def _study_started(self, event: StudyStarted) -> None:
        for trial in event.earlier:
            self._take_note(trial)
        self._finished, self._wanted = event.finished, event.wanted
        self._found, self._started = event.finished, self._clock()
        if self._overall_task is None:
            self._overall_task = self._overall.add_task("trials", total=event.wanted, left="")
        self._update_overall()
        if event.resumed:
            self._say(f"Going on: {event.finished} of {event.wanted} trials are there.")

    def _trial_started(self, event: TrialStarted) -> None:
        trial = event.trial
        name = candidate_name(trial.candidate)
        description = f"trial {trial.number}  {name}" + (
            "" if trial.continues is None else f" (continues trial {trial.continues})"
        )
        self._trial_tasks[trial.number] = self._trials.add_task(description, total=1.0, doing="")

    def _trial_progressed(self, event: TrialProgressed) -> None:
        number = event.trial.number
        task = self._trial_tasks.get(number)
        if task is None:
            return
        progress = event.progress
        if progress.epoch is not None:
            top1 = progress.values.get("top1_percent", math.nan)
            self._readings[number] = f"epoch {progress.epoch}, top-1 {quantity('top1_percent').number(top1)} %"
        reading = self._readings.get(number, "")
        doing = f"{progress.stage}, {reading}" if reading else progress.stage
        self._trials.update(task, completed=progress.fraction, doing=doing)

    def _trial_ended(self, event: TrialEnded) -> None:
        trial = event.trial
        task = self._trial_tasks.pop(trial.number, None)
        self._readings.pop(trial.number, None)
        if task is not None:
            self._trials.remove_task(task)
        self._take_note(trial)
        if trial.state == "fail":
            self._failed += 1
        self._update_overall()
        if trial.state == "fail" or not self._console.is_terminal:
            self._say(self._line_of(trial))

    def _front_progressed(self, event: FrontProgressed) -> None:
        if self._front_task is None:
            self._front_task = self._trials.add_task("measuring the front", total=1.0, doing="")
        done = (event.measured + event.progress.fraction) / event.wanted
        doing = f"network {event.measured + 1} of {event.wanted}, trial {event.trial.number}"
        self._trials.update(self._front_task, completed=done, doing=doing)

    def _take_note(self, trial: Trial) -> None:
        if trial.has_result and trial.key not in self._judged:
            self._judged.add(trial.key)
            self._finished += 1
        if trial.state == "complete" and trial.is_feasible(self._constraints):
            self._front = front_with(self._front, row_of(trial, self._objectives))

    def _update_overall(self) -> None:
        if self._overall_task is None:
            return
        left = _time_left(self._clock() - self._started, self._finished - self._found, self._wanted - self._finished)
        failed = f", {self._failed} failed" if self._failed else ""
        self._overall.update(
            self._overall_task, completed=self._finished, total=max(self._wanted, 1), left=f"{left}{failed}"
        )

    def _line_of(self, trial: Trial) -> str:
        name = candidate_name(trial.candidate)
        head = f"[{self._finished}/{self._wanted}] trial {trial.number}"
        if trial.state == "fail":
            return f"{head} failed: {trial.reason} ({name})"
        row = row_of(trial, self._objectives)
        values = ", ".join(reading_text(row, i, objective) for i, objective in enumerate(self._objectives))
        note = "" if trial.is_feasible(self._constraints) else ", breaks a constraint"
        if trial.state == "pruned":
            note += f", stopped after {trial.epochs} epoch{'s' if trial.epochs != 1 else ''}"
        return f"{head} {values}{note}, {trial.seconds:.0f} s  {name}"

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        parts: list[RenderableType] = [Text(self._title, style="bold")] if self._title else []
        parts += [self._overall, self._trials]
        if self._front:
            parts.append(front_table(self._front, self._objectives))
        return Group(*parts)


def _overall_bar(console: Console, clock: Callable[[], float]) -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    return Bars(*columns, console=console, get_time=clock)


def _trial_bars(console: Console, clock: Callable[[], float]) -> Bars:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars
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
    return Bars(*columns, console=console, get_time=clock, expand=True)


def _line_of_measured(event: MemberMeasured) -> str:
    name = candidate_name(event.trial.candidate)
    shown = quantity(event.prediction.name)
    head, predicted = f"trial {event.trial.number} {shown.label.lower()}", shown.predicted(event.prediction.value)
    if event.measurement is None:
        return f"{head} stays {predicted} {shown.unit}: {event.reason} ({name})"
    measured = shown.with_spread(event.measurement.value, event.measurement.spread)
    error = prediction_error_percent(event.prediction.value, event.measurement.value)
    return f"{head} measured {measured} {shown.unit}, predicted {predicted} ({error:+.1f} %)  {name}"


def _time_left(seconds: float, done: int, missing: int) -> str:
    """Text like "about 12 min left", by the pace of this run; "" where nothing has ended in it."""
    if done <= 0 or missing <= 0:
        return ""
    left = seconds / done * missing
    if left < 90:
        return f"about {left:.0f} s left"
    return f"about {left / 60:.0f} min left" if left < 5400 else f"about {left / 3600:.1f} h left"

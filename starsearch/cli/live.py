"""What commands show while they work: `LiveView` a study's run, `bar` anything else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from starsearch.candidate import Candidate
from starsearch.cli.show import Cell, table
from starsearch.families.text import format_architecture
from starsearch.measurement import Prediction, prediction_error_percent
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress, duration_text
from starsearch.quantities import Quantity, quantity
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
from starsearch.trial import INTERRUPTED, Trial

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import TaskID
    from rich.table import Table

_FRONT_ROWS = 10
_OVERALL, _FRONT = -1, -2  # bars that are not a trial's


def doing(progress: Progress) -> str:
    """Return what is being done; while a latency is measured, how many pairs of runs there are."""
    pairs = progress.values.get("pairs")
    return progress.stage if pairs is None else f"{progress.stage}, {pairs:.0f} pairs"


@contextmanager
def bar(
    describe: Callable[[Progress], str] = doing, *, console: Console | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Show progress as a bar that disappears at the end, with the words of `describe`; nothing without a terminal.

    Lines above the bar are printed with `console`; without one the bar is on stderr.
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


def candidate_name(candidate: Candidate) -> str:
    """Return an anchor's name, else the architecture in one line; its resolution where that is not the space's."""
    pixels = f" at {candidate.resolution} px" if candidate.resolution else ""
    return (candidate.anchor or format_architecture(candidate.architecture)) + pixels


class LiveView:
    """Shows a run's events: a bar, the trials under way, and the front so far; without a terminal a line a trial.

    It is shown on stdout if no `console` is given.
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
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        self._objectives, self._constraints = tuple(objectives), tuple(constraints)
        self._title, self._clock = title, clock
        self._console = console or Console(highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[doing]}", markup=False, table_column=Column(no_wrap=True)),
            console=self._console,
            expand=True,
        )
        self._tasks: dict[int, TaskID] = {}
        self._judged: set[str] = set()  # candidates, each once, however many trials its training was made of
        self._readings: dict[int, str] = {}
        self._begun: dict[int, tuple[float, float]] = {}  # when a trial first told how far it is, and how far
        self._front: list[Trial] = []
        self._started, self._found = clock(), 0
        self._finished = self._wanted = self._failed = self._untrained = 0
        self._why = ""  # of the latest trial
        # Transient: the end of the run prints the whole front; a frozen copy of the live one would stand above it.
        self._live = Live(get_renderable=self._render, console=self._console, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        elif self._title:
            self._say(self._title)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case StudyStarted():
                self._study_started(event)
            case TrialStarted(trial=trial, why=why):
                note = "" if trial.continues is None else f" (continues trial {trial.continues})"
                self._show(trial.number, f"trial {trial.number}  {candidate_name(trial.candidate)}{note}", 0.0, "")
                if why:
                    self._why = f"trial {trial.number}: {why}"
                    if not self._console.is_terminal:
                        self._say(self._why)
            case TrialProgressed(trial=trial, progress=progress):
                self._trial_progressed(trial, progress)
            case TrialEnded(trial=trial):
                self._trial_ended(trial)
            case FrontProgressed():
                done = (event.measured + event.progress.fraction) / event.wanted
                which = f"network {event.measured + 1} of {event.wanted}, trial {event.trial.number}"
                self._show(_FRONT, "measuring the front", done, which)
            case MemberMeasured():
                self._member_measured(event)
            case StudyEnded():
                self._finished, self._wanted = event.finished, event.wanted
        self._update_overall()

    def _study_started(self, event: StudyStarted) -> None:
        for trial in event.earlier:
            self._note(trial)
        self._finished, self._wanted = event.finished, event.wanted
        self._found, self._started = event.finished, self._clock()
        if event.resumed:
            self._say(f"Resuming: {event.finished} of {event.wanted} trials are there.")

    def _trial_progressed(self, trial: Trial, progress: Progress) -> None:
        if progress.epoch is not None:
            top1 = quantity("top1_percent").number(progress.values.get("top1_percent", math.nan))
            self._readings[trial.number] = f", epoch {progress.epoch}, top-1 {top1} %"
        left = ""
        if progress.fraction > 0:  # a resumed training begins further on, and reading images says nothing of its pace
            began, done = self._begun.setdefault(trial.number, (self._clock(), progress.fraction))
            left = _time_left(self._clock() - began, progress.fraction - done, 1 - progress.fraction)
        stage = f"{progress.stage}{self._readings.get(trial.number, '')}"
        words = filter(None, [f"{100 * progress.fraction:3.0f} %  {stage}", left])
        self._show(trial.number, None, progress.fraction, ", ".join(words))

    def _trial_ended(self, trial: Trial) -> None:
        if (task := self._tasks.pop(trial.number, None)) is not None:
            self._bars.remove_task(task)
        self._note(trial)
        is_untrained = trial.untrained
        self._untrained += is_untrained
        self._failed += trial.state == "fail" and not (trial.lost or is_untrained)
        if (trial.state == "fail" and not is_untrained) or not self._console.is_terminal:
            self._say(self._line(trial))
        elif is_untrained:
            self._why = self._line(trial)

    def _note(self, trial: Trial) -> None:
        """Count a candidate that has a result, and put it on the front if it belongs there."""
        import numpy as np

        from starsearch.pareto import non_dominated

        if trial.has_result and trial.key not in self._judged:
            self._judged.add(trial.key)
            self._finished += 1
        if trial.state != "complete" or not trial.is_feasible(self._constraints):
            return
        rows = [*self._front, trial]
        losses = np.array([row.losses(self._objectives) for row in rows])
        stays = non_dominated(losses) & np.isfinite(losses).all(axis=1)
        members = [row for row, stay in zip(rows, stays, strict=True) if stay]
        self._front = sorted(members, key=lambda row: row.losses(self._objectives)[::-1])

    def _show(self, key: int, description: str | None, completed: float, doing: str, total: float = 1.0) -> None:
        """Update the bar of a trial, or of the study; it is made at its first description."""
        if key not in self._tasks and description is not None:
            self._tasks[key] = self._bars.add_task(description, doing="")
        if key in self._tasks:
            self._bars.update(self._tasks[key], completed=completed, total=total, doing=doing)

    def _update_overall(self) -> None:
        left = _time_left(self._clock() - self._started, self._finished - self._found, self._wanted - self._finished)
        words = [f"{self._finished}/{self._wanted}", left, f"{self._failed} failed" if self._failed else ""]
        words += [f"{self._untrained} not trained"] if self._untrained else []
        self._show(_OVERALL, "trials", self._finished, ", ".join(filter(None, words)), max(self._wanted, 1))

    def _line(self, trial: Trial) -> str:
        name = candidate_name(trial.candidate)
        head = f"[{self._finished}/{self._wanted}] trial {trial.number}"
        shown = [quantity(one.name) for one in self._objectives if trial.state != "fail" or trial.reading(one.name)]
        values = ", ".join(_in_words(trial, one) for one in shown)
        if trial.untrained:
            return f"{head} {values}. {trial.reason}  {name}"
        if trial.state == "fail":
            why = "" if trial.reason == INTERRUPTED else f": {trial.reason}"
            return f"{head} {'interrupted' if trial.lost else 'failed'}{why} ({name})"
        note = "" if trial.is_feasible(self._constraints) else ", breaks a constraint"
        if trial.state == "pruned":
            note += f", stopped after {trial.epochs} epoch{'s' if trial.epochs != 1 else ''}"
        return f"{head} {values}{note}, {trial.seconds:.0f} s  {name}"

    def _member_measured(self, event: MemberMeasured) -> None:
        name, shown = candidate_name(event.trial.candidate), quantity(event.prediction.name)
        head, predicted = f"trial {event.trial.number} {shown.label.lower()}", shown.predicted(event.prediction.value)
        if event.measurement is None:
            self._say(f"{head} stays {predicted} {shown.unit}: {event.reason} ({name})")
        elif not self._console.is_terminal:
            measured = shown.with_spread(event.measurement.value, event.measurement.spread)
            error = prediction_error_percent(event.prediction.value, event.measurement.value)
            self._say(f"{head} measured {measured} {shown.unit}, predicted {predicted} ({error:+.1f} %)  {name}")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        front = [self._front_table()] if self._front else []
        why = [Text(self._why)] if self._why else []
        return Group(*([Text(self._title, style="bold")] if self._title else []), self._bars, *why, *front)

    def _front_table(self) -> Table:
        """Return the front so far in at most ten rows, evenly chosen with both ends."""
        count = min(len(self._front), _FRONT_ROWS)
        rows = [self._front[round(i * (len(self._front) - 1) / max(count - 1, 1))] for i in range(count)]
        columns: dict[str, Cell] = {
            "Trial": lambda row: str(row.number),
            "Front so far": lambda row: candidate_name(row.candidate),
        }
        columns |= {quantity(one.name).heading: partial(_reading, name=one.name) for one in self._objectives}
        shown = table(rows, columns, left=0, style=lambda row: "bold" if row.is_anchor else "")
        shown.expand, name = True, shown.columns[1]
        name.justify, name.ratio, name.overflow = "left", 1, "ellipsis"
        if count < len(self._front):
            shown.caption = f"{len(self._front)} trials on the front; {count} of them shown."
        return shown


def _reading(trial: Trial, name: str) -> str:
    """Return a reading with its spread, or marked as what it is else: "2.31 ± 0.02", "≈ 2.25"."""
    reading, shown = trial.reading(name), quantity(name)
    if reading is None:
        return shown.number(math.nan)
    if isinstance(reading, Prediction):
        return shown.text(reading.value, reading.kind, spread=None, low=reading.low, high=reading.high)
    return shown.with_spread(reading.value, reading.spread)


def _in_words(trial: Trial, shown: Quantity) -> str:
    """Return a reading as in "latency 2.31 ± 0.02 ms" or "published ImageNet top-1 73.5 %"."""
    number, published, _ = _reading(trial, shown.name).partition(" published")
    label = shown.label.replace("Estimated", "Published") if published else shown.label
    return f"{label.lower().replace('imagenet', 'ImageNet')} {number} {shown.unit}".rstrip()


def _time_left(seconds: float, done: float, missing: float) -> str:
    """Return text like "about 12 min left", by the pace in which so much was done; "" where nothing was."""
    if done <= 0 or missing <= 0:
        return ""
    return f"about {duration_text(seconds / done * missing)} left"

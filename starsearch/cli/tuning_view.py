"""`TuningView`: what a recipe search shows while it runs: a line a trial that has ended, in a terminal bars below."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from starsearch.candidate import Candidate
from starsearch.recipe import Recipe
from starsearch.search.events import Event, StudyEnded, StudyStarted, TrialEnded, TrialProgressed, TrialStarted
from starsearch.study.tuning_file import describe_changes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


class TuningView:
    """Shows a recipe search's events.

    Args:
        base: the base recipe; a trial is named by what differs from it.
        title: shown above.
        epochs: of a whole training.
        is_population: whether stopped trainings live on in others, and so are not counted.
        console: where to; None for stdout.
    """

    def __init__(
        self, base: Recipe, *, title: str, epochs: int, is_population: bool, console: Console | None = None
    ) -> None:
        from rich.console import Console

        self._base = base
        self._title = title
        self._epochs = epochs
        self._is_population = is_population
        self._console = console or Console(highlight=False)
        self._bars = _make_bars(self._console)
        self._overall: TaskID | None = None
        self._tasks: dict[int, TaskID] = {}
        self._finished = self._wanted = 0

    def __enter__(self) -> Self:
        self._say(self._title)
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        match event:
            case StudyStarted():
                self._study_started(event)
            case TrialStarted():
                note = "" if event.continues is None else f" (goes on from trial {event.continues})"
                name = f"trial {event.number}{note}  {self._name(event.candidate)}"
                self._tasks[event.number] = self._bars.add_task(name, total=1.0, doing="")
            case TrialProgressed():
                self._trial_progressed(event)
            case TrialEnded():
                self._trial_ended(event)
            case StudyEnded():
                self._finished = event.finished
                self._update_overall()
            case _:  # nothing is measured after a training
                pass

    def _study_started(self, event: StudyStarted) -> None:
        self._finished, self._wanted = event.finished, event.wanted
        self._overall = self._bars.add_task("recipes", total=max(event.wanted, 1), doing="")
        self._update_overall()
        if event.resumed:
            self._say(f"Going on: {event.finished} of {event.wanted} trials are there.")

    def _trial_progressed(self, event: TrialProgressed) -> None:
        progress = event.progress
        doing = f"epoch {progress.epoch} of {self._epochs}, top-1 {progress.values['top1_percent']:.2f} %"
        self._bars.update(self._tasks[event.number], completed=progress.fraction, doing=doing)

    def _trial_ended(self, event: TrialEnded) -> None:
        if (task := self._tasks.pop(event.number, None)) is not None:
            self._bars.remove_task(task)
        counts = event.state == "complete" or (event.state == "pruned" and not self._is_population)
        self._finished += counts
        self._update_overall()
        self._say(f"[{self._finished}/{self._wanted}] trial {event.number} {self._outcome(event)}")

    def _outcome(self, event: TrialEnded) -> str:
        name = self._name(event.candidate)
        if event.state == "fail":
            return f"failed: {event.reason}  {name}"
        top1 = next(one.value for one in event.measurements if one.name == "top1_percent")
        stopped = "" if event.epochs is None else f", stopped after epoch {event.epochs}"
        return f"top-1 {top1:.2f} %{stopped}, {event.seconds:.0f} s  {name}"

    def _name(self, candidate: Candidate) -> str:
        return candidate.anchor or describe_changes(candidate.recipe, self._base)

    def _update_overall(self) -> None:
        if self._overall is not None:
            self._bars.update(self._overall, completed=self._finished, doing=f"{self._finished} of {self._wanted}")

    def _say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _make_bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[doing]}", markup=False, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, expand=True, transient=True)

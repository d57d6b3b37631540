"""The front so far, as the live view shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starsearch.candidate import Candidate
from starsearch.families.text import format_architecture
from starsearch.measurement import Prediction, Reading
from starsearch.objective import Objective
from starsearch.quantities import quantity
from starsearch.trial import Trial

if TYPE_CHECKING:
    from rich.table import Table

_FRONT_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontRow:
    """A complete trial as the live front needs it; values, readings and losses are in the objectives' order."""

    number: int
    name: str
    is_anchor: bool
    readings: tuple[Reading | None, ...]
    losses: tuple[float, ...]


def row_of(trial: Trial, objectives: Sequence[Objective]) -> FrontRow:
    """The row of a complete trial; NaN where an objective has no reading."""
    return FrontRow(
        number=trial.number,
        name=candidate_name(trial.candidate),
        is_anchor=trial.is_anchor,
        readings=tuple(trial.reading(o.name) for o in objectives),
        losses=trial.losses(objectives),
    )


def front_with(front: Sequence[FrontRow], row: FrontRow) -> list[FrontRow]:
    """The front once `row` is complete, best in the last objective first; what lacks a value stays out."""
    import numpy as np

    from starsearch.pareto import non_dominated

    rows = [*front, row]
    values = np.array([row.losses for row in rows], dtype=float)
    stays = non_dominated(values) & np.isfinite(values).all(axis=1)
    return sorted((row for row, stay in zip(rows, stays, strict=True) if stay), key=lambda row: row.losses[::-1])


def reading_text(row: FrontRow, i: int, objective: Objective) -> str:
    """The row's reading of the i-th objective in words: "latency 2.31 ± 0.02 ms", "latency ≈ 2.25 ms"."""
    shown = quantity(objective.name)
    return f"{shown.label.lower()} {_written(row.readings[i], objective)} {shown.unit}".rstrip()


def _written(reading: Reading | None, objective: Objective) -> str:
    """The value with its spread, or marked as predicted: "2.31 ± 0.02", "≈ 2.25"."""
    shown = quantity(objective.name)
    if reading is None:
        return shown.number(math.nan)
    if isinstance(reading, Prediction):
        return shown.predicted(reading.value)
    return shown.with_spread(reading.value, reading.spread)


def front_table(front: Sequence[FrontRow], objectives: Sequence[Objective]) -> Table:
    """The front as a table of at most ten rows, evenly chosen."""
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
        cells = [_written(row.readings[i], objective) for i, objective in enumerate(objectives)]
        name = Text(row.name, style="bold" if row.is_anchor else "")
        table.add_row(str(row.number), name, *cells)
    if len(shown) < len(front):
        table.caption = f"{len(front)} trials on the front; {len(shown)} of them shown."
    return table


def _evenly(front: Sequence[FrontRow], limit: int) -> list[FrontRow]:
    """At most `limit` rows, both ends among them, evenly chosen."""
    if len(front) <= limit:
        return list(front)
    return [front[round(i * (len(front) - 1) / (limit - 1))] for i in range(limit)]


def candidate_name(candidate: Candidate) -> str:
    """An anchor's name, else the architecture in one line."""
    return candidate.anchor or format_architecture(candidate.architecture)

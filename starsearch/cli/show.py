"""What commands print: JSON for scripts, or lines, facts and tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

Cell = str | Callable[[Any], Any]


def say(*lines: str, style: str | None = None, error: bool = False) -> None:
    """Print lines as they are: never broken, so that they can be copied; `error` prints to stderr."""
    from rich.console import Console

    console = Console(stderr=error, soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line, style=style, markup=False)


def print_json(value: Any) -> None:
    """Print a value as JSON; dataclasses become objects, paths text."""
    print(json.dumps(value, indent=2, default=lambda one: _fields(one) if is_dataclass(one) else str(one)))


def figure(value: float, spec: str = ".2f") -> str:
    """Return a number in a format, with a true minus sign; a dash where it is NaN."""
    return "–" if math.isnan(value) else f"{value:{spec}}".replace("-", "−")


def print_facts(facts: Mapping[str, str]) -> None:
    """Print a bold label and its words a row; a fact without words is left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_header=False, box=None, pad_edge=False)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    for label, words in facts.items():
        if words:
            shown.add_row(label, Text(words))
    Console(soft_wrap=True, highlight=False).print(shown)


def table(
    rows: pd.DataFrame | Iterable[Any],
    columns: Mapping[str, Cell] | Sequence[tuple[str, Cell]],
    *,
    title: str | None = None,
    left: int = 1,
    style: Callable[[Any], str] = lambda _row: "",
) -> Table:
    """Return rows (a frame, mappings or dataclasses) as a table.

    `columns` are, by heading, a format string over a row's fields ("{ms:.3g}"), or a function of the row (of a frame's
    as a dictionary) that returns text or a `rich` text. The first `left` ones are aligned to the left; figures stand to
    the right. `style` is a row's, by `rich`'s words.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    named = list(columns.items()) if isinstance(columns, Mapping) else columns
    for index, (heading, _) in enumerate(named):
        is_left = index < left
        shown.add_column(heading, justify="left" if is_left else "right", overflow="fold", no_wrap=not is_left)
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    for row in records:
        cells = [cell(row) if callable(cell) else cell.format(**_fields(row)) for _, cell in named]
        shown.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style(row))
    return shown


def print_table(shown: Table) -> None:
    """Print a table as wide as the terminal, folding figures that do not fit, or as wide as it needs to a file."""
    from rich.console import Console

    console = Console()
    figures = [column for column in shown.columns if column.no_wrap]
    for column in figures:
        texts = [str(text) for text in (column.header, *column.cells)]
        column.min_width = max(len(line) for text in texts for line in text.splitlines() or [""])
    needed = console.measure(shown, options=console.options.update(max_width=1000)).minimum
    if needed > console.width and console.is_terminal:
        for column in shown.columns:
            column.min_width, column.no_wrap = None, False
    elif needed > console.width:
        console.width = needed
    console.print(shown)


def _fields(result: Any) -> dict[str, Any]:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else dict(result)

"""What the reading commands print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from starsearch.api import Exported


def print_exports(found: Sequence[Exported]) -> None:
    """What was written and how to load it."""
    console = Console(soft_wrap=True, highlight=False)
    for export in found:
        console.print(f"{export.source}: {export.architecture}")
        for path in export.files:
            console.print(f"  {path}")
        for note in export.notes:
            console.print(f"  {note}", markup=False)
        if export.load:
            console.print(f"  {export.load}", markup=False)
    console.print("Each was read back and checked against the model.")

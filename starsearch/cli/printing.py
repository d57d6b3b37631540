"""What the reading commands print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from starsearch.api import Exported


def print_latency(found: Mapping[str, Any]) -> None:
    """The latency with its interval, what it was measured on, and what a reader should know about it."""
    console = Console(soft_wrap=True, highlight=False)
    size = f" at {found['resolution']} px" if found["resolution"] else ""
    macs = f", {found['macs'] / 1e6:.1f} MMACs with {found['num_classes']} classes" if found["macs"] is not None else ""
    low, high = found["latency_ms_interval"]
    console.print(
        f"{found['architecture']}{size}: {found['latency_ms']:.3f} ± {found['latency_ms_spread']:.3f} ms "
        f"({found['pairs']} pairs{macs})",
        markup=False,
    )
    console.print(f"95 % interval {low:.3f} to {high:.3f} ms; {found['ratio']:.3f} × the reference network")
    console.print(f"on {found['device']}; the reference network takes {found['reference_ms']:.3f} ms", markup=False)
    for note in found["notes"]:
        console.print(f"note: {note}", markup=False)


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

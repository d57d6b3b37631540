"""What `starsearch latency` prints about backends: which there are, and where one runs a network's operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from starsearch.cli.show import facts_table

_SHOWN = 10  # operations; the dearest say it


def print_backends(missing: Mapping[str, str | None]) -> None:
    """A line a backend: ready, or what this machine lacks for it."""
    from rich.markup import escape

    table = facts_table()
    for name, lacks in missing.items():
        table.add_row(name, "ready" if lacks is None else f"not here: {escape(lacks)}")
    Console(highlight=False).print(table)


def print_placement(placement: Mapping[str, Any]) -> None:
    """The share of each processor, and the dearest operations on the CPU."""
    console = Console(soft_wrap=True, highlight=False)
    shares = ", ".join(
        f"{100 * placement[f'{processor}_share']:.1f} % {words}"
        for processor, words in (("neural_engine", "Neural Engine"), ("gpu", "GPU"), ("cpu", "CPU"))
    )
    console.print(f"Core ML would run the {placement['operations']} operations on (by estimated cost): {shares}")
    on_cpu = placement["cpu_operations"]
    for operation in on_cpu[:_SHOWN]:
        why = "no other processor can" if operation["is_forced"] else "by choice"
        share = f"{100 * operation['cost_share']:.1f} %"
        console.print(f"  on the CPU, {why}: {operation['name']} ({operation['type']}), {share}", markup=False)
    if len(on_cpu) > _SHOWN:
        console.print(f"  and {len(on_cpu) - _SHOWN} more on the CPU; --json lists them")

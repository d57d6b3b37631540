"""Device profiles, predictions and checks on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.cli.show import facts_table
from starsearch.families.text import format_architecture

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from starsearch.api.measured import Imported
    from starsearch.api.profiles import CheckOutcome
    from starsearch.families.family import Architecture
    from starsearch.latency.profile import DeviceProfile, Predictions


def profile_facts(profile: DeviceProfile) -> dict[str, Any]:
    """What `fit --json` prints: the profile without its samples."""
    facts = asdict(profile)
    return {**facts, "samples": len(profile.samples), "coefficients_ms": dict(profile.coefficients_ms)}


def print_profile(profile: DeviceProfile, path: Path, notes: Sequence[str] = ()) -> None:
    """A profile's facts, how it was measured, and what to do with it."""
    from rich.console import Console

    console = Console()
    table = facts_table()
    for key, value in _profile_rows(profile).items():
        table.add_row(key, value)
    console.print(table)
    if profile.note:
        console.print(profile.note, style="yellow")
    _print_notes(console, notes)
    console.print(
        f"Written to {path} and {path.with_suffix('.csv').name}. Use it as a study's device, or:", style="dim"
    )
    console.print(f"  starsearch latency predict {path} starnet_s1", style="dim", soft_wrap=True)


def _profile_rows(profile: DeviceProfile) -> dict[str, str]:
    error = profile.held_out
    low, high = (100 * (math.exp(end) - 1) for end in profile.interval_log)
    rows = {
        "profile": profile.name,
        "device": profile.device.text,
        "calibrated": f"{profile.date}, {len(profile.samples)} networks at {profile.resolution} px",
        "held-out error": (
            f"{error.mape_percent:.1f} % mean, {error.within_5_percent:.0f} % within ±5 %, "
            f"{error.within_10_percent:.0f} % within ±10 %, Spearman {error.spearman:.3f} "
            f"({error.method}, {error.networks} networks)"
        ),
        "90 % interval": f"{low:+.1f} % to {high:+.1f} % of a prediction",
    }
    if profile.reference is not None:
        rows["scale"] = f"StarNet-S1 at 224 px takes {profile.reference.ms:.3g} ± {profile.reference.spread:.1g} ms"
    return rows


def prediction_facts(
    profile: DeviceProfile, architectures: Sequence[Architecture], found: Predictions, resolutions: Sequence[int]
) -> list[dict[str, Any]]:
    """What `predict --json` prints, a network an entry."""
    return [
        {
            "architecture": format_architecture(architecture),
            "predicted_ms": float(ms),
            "low_ms": float(low),
            "high_ms": float(high),
            "device": found.device,
            "profile": profile.name,
            "resolution": resolution,
        }
        for architecture, ms, low, high, resolution in zip(
            architectures, found.ms, found.low_ms, found.high_ms, resolutions, strict=True
        )
    ]


def print_predictions(
    profile: DeviceProfile, architectures: Sequence[Architecture], found: Predictions, resolutions: Sequence[int]
) -> None:
    """Predicted latencies with their intervals, and how good the profile is."""
    from rich.console import Console

    console = Console()
    table = _table(("network", "predicted ms", "90 % interval"))
    for fact in prediction_facts(profile, architectures, found, resolutions):
        interval = f"{fact['low_ms']:.3g} – {fact['high_ms']:.3g}"
        table.add_row(fact["architecture"], f"{fact['predicted_ms']:.3g}", interval)
    console.print(table)
    error, pixels = profile.held_out, " and ".join(str(one) for one in sorted(set(resolutions)))
    console.print(
        f"On {found.device}, {pixels} px; held-out error of the profile {error.mape_percent:.1f} % "
        f"({error.networks} networks, {error.method}, {profile.date}).",
        style="dim",
    )
    if set(resolutions) != {profile.resolution}:
        console.print(
            f"The profile was calibrated at {profile.resolution} px: at others its error is not known.",
            style="yellow",
        )
    if profile.note:
        console.print(profile.note, style="yellow")


def check_facts(outcome: CheckOutcome) -> dict[str, Any]:
    """What `check --json` prints."""
    check = outcome.check
    return {
        "profile": outcome.profile.name,
        "holds": check.holds,
        "balanced": check.is_balanced,
        "in_scale": check.is_in_scale,
        "reference_ms": outcome.reference_ms,
        "notes": list(outcome.notes),
        "differences": list(outcome.differences),
        "inside": check.inside,
        "bias_percent": 100 * check.bias,
        "errors": asdict(check.errors),
        "networks": [
            {
                "architecture": sample.architecture,
                "measured_ms": sample.ms,
                "predicted_ms": float(check.predictions.ms[row]),
                "low_ms": float(check.predictions.low_ms[row]),
                "high_ms": float(check.predictions.high_ms[row]),
            }
            for row, sample in enumerate(check.samples)
        ],
    }


def print_check(outcome: CheckOutcome) -> None:
    """Measured against predicted, a network a row, and the verdict."""
    from rich.console import Console

    console = Console()
    facts = check_facts(outcome)
    table = _table(("network", "measured ms", "predicted ms", "90 % interval", "off"))
    for row in facts["networks"]:
        off = 100 * (row["measured_ms"] / row["predicted_ms"] - 1)
        inside = row["low_ms"] <= row["measured_ms"] <= row["high_ms"]
        table.add_row(
            row["architecture"],
            f"{row['measured_ms']:.3g}",
            f"{row['predicted_ms']:.3g}",
            f"{row['low_ms']:.3g} – {row['high_ms']:.3g}",
            f"{off:+.1f} %",
            style=None if inside else "yellow",
        )
    console.print(table)
    for difference in outcome.differences:
        console.print(f"Not the profile's machine; {difference}.", style="yellow")
    _print_notes(console, outcome.notes)
    check = outcome.check
    verdict = "holds" if check.holds else "does not hold"
    console.print(
        f"The profile {outcome.profile.name} {verdict} on this machine: {check.inside} of {len(check.samples)} "
        f"networks inside their intervals by the reference network's time, mean error "
        f"{check.errors.mape_percent:.1f} %; the machine as a whole takes {100 * check.bias:+.1f} %.",
        style="bold green" if check.holds else "bold red",
    )
    if not check.is_balanced:
        console.print(
            "Calibrate anew (starsearch latency fit --out NEW.yaml), or adapt it with ten networks (--from).",
            style="dim",
        )
    elif not check.is_in_scale:
        console.print(
            "Networks still compare as it says, but the machine runs at another speed: is it throttled, or busy? "
            "If it stays so, calibrate anew.",
            style="dim",
        )


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(note, style="yellow")


def print_import(found: Imported) -> None:
    """How many networks have a figure now, and which were passed over."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(f"{found.name}: {found.networks} networks of the study have a measured figure now.")
    if found.passed_over:
        console.print(
            f"Passed over, since the study has not evaluated them: {len(found.passed_over)}, the first of them "
            f"{found.passed_over[0]}.",
            style="yellow",
        )
    for path in found.files:
        console.print(f"Written anew: {path}", style="dim")


def _table(headings: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", overflow="fold")
    return table

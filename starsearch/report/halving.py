"""What successive halving did and saved, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def halving_lines(trials: pd.DataFrame, halving: Mapping[str, Any] | None) -> list[str]:
    """A line of who climbed how far, one of the epochs that took; none without successive halving.

    Args:
        trials: of the study.
        halving: the study's attribute of this name: `eta`, `epochs_of_rungs`, `epochs` of a whole training.
    """
    if not halving or "rung" not in trials:
        return []
    searched = trials[trials["anchor"].isna()]
    stopped = searched[searched["state"] == "PRUNED"]
    if stopped.empty:
        return []
    went_on = set(searched["continues"].dropna())
    climbs = []
    for rung, epochs in enumerate(halving["epochs_of_rungs"]):
        here = stopped[stopped["rung"] == rung]
        climbs.append(f"{len(here)} reached {_epochs(epochs)}, {here['number'].isin(went_on).sum()} of them went on")
    trained, whole = _trained_epochs(searched, halving)
    return [
        f"Successive halving (eta {halving['eta']}): {'; '.join(climbs)}.",
        f"Trained {trained} of the {whole} epochs ({trained / whole:.0%}) that training all of them to the end takes.",
    ]


def _trained_epochs(searched: pd.DataFrame, halving: Mapping[str, Any]) -> tuple[int, int]:
    """In all trials that have ended with a result; and of as many whole trainings as there are candidates."""
    ended = searched[searched["state"].isin(["PRUNED", "COMPLETE"])]
    reached = ended["epochs"].where(ended["state"] == "PRUNED", halving["epochs"])
    furthest = reached.groupby(ended["architecture"] + ended["recipe"].astype(str)).max()
    return int(furthest.sum()), int(len(furthest) * halving["epochs"])


def _epochs(number: int) -> str:
    return "1 epoch" if number == 1 else f"{number} epochs"

"""A study's lower fidelities beside its highest: never mixed on one line, each candidate at the highest it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starsearch.report.agreement import candidate_keys

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A study at a fidelity below the highest.

    Attributes:
        study: its name in the storage.
        trials: all of it, a row each.
        front: of `front_table`.
    """

    study: str
    trials: pd.DataFrame
    front: pd.DataFrame

    @property
    def fidelity(self) -> str:
        """Its name."""
        return str(self.trials["fidelity"].iloc[0])


def stayed(rung: Rung, above: pd.DataFrame) -> pd.DataFrame:
    """The rows of a rung's front whose candidates have no result at the fidelity `above` it, the next: trials of it.

    Anchors that have one are left out as well.
    """
    return without_higher(rung.front, above)


def without_higher(rows: pd.DataFrame, above: pd.DataFrame) -> pd.DataFrame:
    """The rows whose candidates have no result among the trials `above`."""
    went_on = set(candidate_keys(above[above["state"] == "COMPLETE"]))
    return rows[~candidate_keys(rows).isin(went_on)]


def all_trials(trials: pd.DataFrame, lower: Sequence[Rung]) -> pd.DataFrame:
    """The trials of every fidelity, the cheapest first, with `study` to tell equal numbers apart; else as they are."""
    if not lower:
        return trials
    frames = [rung.trials.assign(study=rung.study) for rung in reversed(lower)]
    base = frames[0]["study"].iloc[0]
    fidelity = str(trials["fidelity"].iloc[0])
    return _stack([*frames, trials.assign(study=f"{base}.{fidelity}")])


def whole_front(front: pd.DataFrame, trials: pd.DataFrame, lower: Sequence[Rung]) -> pd.DataFrame:
    """The front of the highest fidelity, then of each lower one whoever has no higher result; with `fidelity`.

    `on_front`, `rank` and gains are of the fidelity of the row.
    """
    if not lower:
        return front
    frames = [front.assign(fidelity=str(trials["fidelity"].iloc[0]))]
    above = trials
    for rung in lower:
        frames.append(stayed(rung, above).assign(fidelity=rung.fidelity))
        above = rung.trials
    return _stack(frames)


def _stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One below another; a column that a frame lacks is empty there."""
    import pandas as pd

    columns = list(dict.fromkeys(column for frame in frames for column in frame))
    # Filled by object columns: pandas would warn of guessing the type of empty ones.
    filled = [frame.reindex(columns=columns).astype(object) for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True).infer_objects()

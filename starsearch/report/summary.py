"""A study in a few numbers: what ran, what was best, how much the front covers, and why trials failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.objective import Objective
from starsearch.report.front import FloatArray, complete_trials, front_table, knee, loss_matrix
from starsearch.report.predictions import prediction_errors

if TYPE_CHECKING:
    import pandas as pd

# Share of the front's range by which the reference point lies beyond its worst values: with 0 the extreme
# points would count for nothing. 1.1 is the customary place on the range scaled to [0, 1]: Ishibuchi et al., "How
# to specify a reference point in hypervolume calculation for fair performance comparison", Evolutionary
# Computation 26(3), 2018.
_REFERENCE_MARGIN = 0.1
# At the end of a reason, another for every trial.
_LOG = r" \(logs/[^)]*\)$"


def summary(trials: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, Any]:
    """What a study came to, ready for JSON.

    Returns:
        `trials`, `complete`, `failed`, `stopped` (at a rung), `infeasible` (complete but beyond a constraint): counts.
        `seconds`: spent by all trials together.
        `on_front`: members of the front; `knee`: the knee's trial number, None without a front.
        `best`: for each objective the best feasible `value` and its `number`; left out where none was measured.
        `hypervolume`: `front` and `anchors` (feasible ones alone) in the product of the objectives' units, and
        the `reference` point of both by objective; None without a front.
        `predictions`: of `prediction_errors`; left out where nothing was predicted.
    """
    complete = complete_trials(trials, objectives)
    front = front_table(trials, objectives)
    num_failed = int((trials["state"] == "FAIL").sum()) if "state" in trials else 0
    has_front = bool(front["on_front"].any())
    predictions = prediction_errors(trials, front, objectives)
    return {
        "trials": len(trials),
        "complete": int((trials["state"] == "COMPLETE").sum()) if "state" in trials else 0,
        "failed": num_failed,
        "stopped": int((trials["state"] == "PRUNED").sum()) if "state" in trials else 0,
        "infeasible": int((~complete["feasible"]).sum()),
        "seconds": float(trials["seconds"].sum()) if "seconds" in trials else 0.0,
        "on_front": int(front["on_front"].sum()),
        "knee": knee(front, objectives) if has_front else None,
        "best": _best(complete[complete["feasible"]], objectives),
        "hypervolume": _front_and_anchor_volume(front, objectives) if has_front else None,
    } | ({"predictions": predictions} if predictions else {})


def hypervolume_history(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """The front's hypervolume after each complete trial, in order of number; never decreasing.

    The reference point is that of `summary`. A share of 1 is the hypervolume of the final front.

    Returns:
        Columns `number` and `share`; no rows without a front.

    Raises:
        StudyError: the trials are of several fidelities.
    """
    import pandas as pd

    from starsearch.pareto import hypervolume, non_dominated

    front = front_table(trials, objectives)
    complete = complete_trials(trials, objectives).sort_values("number")
    if not front["on_front"].any():
        return pd.DataFrame({"number": pd.Series(dtype=int), "share": pd.Series(dtype=float)})
    reference = _reference_point(front, objectives)
    values = loss_matrix(complete, objectives)
    counts = complete["feasible"].to_numpy() & (values <= reference).all(axis=1)  # NaN compares as False
    so_far = values[:0]
    volumes = []
    for row, count in zip(values, counts, strict=True):
        if count and not (so_far <= row).all(axis=1).any():
            so_far = np.vstack([so_far, row])
            so_far = so_far[non_dominated(so_far)]
            volumes.append(hypervolume(so_far, reference))
        else:
            volumes.append(volumes[-1] if volumes else 0.0)
    return pd.DataFrame({"number": complete["number"].to_numpy(), "share": np.array(volumes) / volumes[-1]})


def failure_reasons(trials: pd.DataFrame) -> pd.DataFrame:
    """Why trials failed, most frequent first.

    Returns:
        Columns `reason` (its first line), `count` and `numbers` (a list of the trials').
    """
    import pandas as pd

    if "state" not in trials:
        return pd.DataFrame(columns=["reason", "count", "numbers"])
    failed = trials[trials["state"] == "FAIL"]
    reasons = failed["reason"].fillna("no reason was recorded").astype(str).str.split("\n").str[0]
    reasons = reasons.str.replace(_LOG, "", regex=True)
    grouped = failed.assign(reason=reasons).groupby("reason", sort=True)["number"]
    found = pd.DataFrame({"count": grouped.size(), "numbers": grouped.agg(list)})
    return found.reset_index().sort_values("count", ascending=False, kind="stable", ignore_index=True)


def _best(feasible: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, dict[str, float | int]]:
    best: dict[str, dict[str, float | int]] = {}
    for objective in objectives:
        measured = feasible[np.isfinite(feasible[objective.name])]
        if measured.empty:
            continue
        values = measured[objective.name]
        row = measured.loc[values.idxmin() if objective.direction == "minimize" else values.idxmax()]
        best[objective.name] = {"value": float(row[objective.name]), "number": int(row["number"])}
    return best


def _reference_point(front: pd.DataFrame, objectives: Sequence[Objective]) -> FloatArray:
    """The worst loss of any front member or feasible anchor in each objective, and a tenth of the range beyond."""
    values = loss_matrix(_feasible_and_measured(front, objectives), objectives)
    spans = values.max(axis=0) - values.min(axis=0)
    reference: FloatArray = values.max(axis=0) + np.where(spans > 0, _REFERENCE_MARGIN * spans, 1.0)
    return reference


def _front_and_anchor_volume(front: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, Any]:
    from starsearch.pareto import hypervolume

    reference = _reference_point(front, objectives)
    judged = _feasible_and_measured(front, objectives)
    anchors = loss_matrix(judged[judged["anchor"].notna()], objectives)
    signs = [1 if objective.direction == "minimize" else -1 for objective in objectives]
    return {
        "front": float(hypervolume(loss_matrix(judged[judged["on_front"]], objectives), reference)),
        "anchors": float(hypervolume(anchors, reference)) if len(anchors) else 0.0,
        "reference": {o.name: float(s * r) for o, s, r in zip(objectives, signs, reference, strict=True)},
    }


def _feasible_and_measured(front: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    measured = np.isfinite(loss_matrix(front, objectives)).all(axis=1)
    return front[front["feasible"].to_numpy(dtype=bool) & measured]

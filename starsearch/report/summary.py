"""A study in a few numbers: what ran, what was best, how much the front covers, and why trials failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from starsearch.objective import Objective, miss
from starsearch.records import EXCESS
from starsearch.report.front import FloatArray, complete_trials, front_table, knee, loss_matrix
from starsearch.report.labels import quantity
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
        `foreign`: trials that other programs have made or ended.
        `miss`: where every complete trial breaks a constraint, who breaks which (`nearest_miss`); else None.
        `on_front`: members of the front; `knee`: the knee's trial number, None without a front.
        `best`: for each objective the best feasible `value` with its `spread` (None without one) and its `number`;
        left out where none was measured.
        `hypervolume`: `front` and `anchors` (feasible ones alone) in the product of the objectives' units, and
        the `reference` point of both by objective; None without a front. `num_anchors` are compared with, and
        `told_apart` says whether any searched member of the front is so from its nearest anchor where it is better.
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
        "foreign": int((trials["state"] == "FOREIGN").sum()) if "state" in trials else 0,
        "miss": nearest_miss(complete),
        "seconds": float(trials["seconds"].sum()) if "seconds" in trials else 0.0,
        "on_front": int(front["on_front"].sum()),
        "knee": knee(front, objectives) if has_front else None,
        "best": _best(complete[complete["feasible"]], objectives),
        "hypervolume": _front_and_anchor_volume(front, objectives) if has_front else None,
    } | ({"predictions": predictions} if predictions else {})


def nearest_miss(complete: pd.DataFrame) -> dict[str, Any] | None:
    """Which constraints all trials break, and which trial comes nearest; None where one is feasible, or none is there.

    Returns:
        `trials`: how many; `broken`: a list of the constraints that are broken, each with its `quantity`, `bound`
        ("max" or "min"), `limit`, the `count` of trials that break it and the `value` of the nearest; `number` of the
        nearest; `weights`: its file, None where it was not kept.
    """
    names = [str(column) for column in complete if str(column).startswith(EXCESS)]
    if complete.empty or complete["feasible"].any() or not names:
        return None
    bounds = {}
    for name in names:
        of, _, end = name.removeprefix(EXCESS).rpartition(".")
        first = complete[complete[name].notna()].iloc[0]
        bounds[name] = (of, end, float(first[of] - first[name] if end == "max" else first[of] + first[name]))
    limits = {name: limit for name, (_, _, limit) in bounds.items()}
    rows = complete.sort_values("number")
    misses = [miss({name: row[name] for name in names}, limits) for row in rows.to_dict("records")]
    nearest = rows.iloc[int(np.argmin(misses))]
    return {
        "trials": len(complete),
        "number": int(nearest["number"]),
        "weights": nearest["weights"] if isinstance(nearest.get("weights"), str) else None,
        "broken": [
            {
                "quantity": of,
                "bound": end,
                "limit": limit,
                "count": int((complete[name] > 0).sum()),
                "value": float(nearest[of]),
            }
            for name, (of, end, limit) in bounds.items()
            if (complete[name] > 0).any()
        ],
    }


def miss_lines(found: Mapping[str, Any]) -> list[str]:
    """What `nearest_miss` found, in two sentences."""
    counts, values = [], []
    for one in found["broken"]:
        shown = quantity(one["quantity"])
        limit, value = (f"{one[key] * shown.scale:.4g} {shown.unit}".rstrip() for key in ("limit", "value"))
        at = f"at {'most' if one['bound'] == 'max' else 'least'} {limit}"
        counts.append(f"{one['count']} break{'s' if one['count'] == 1 else ''} {shown.label} {at}")
        values.append(f"{shown.label} {value} where {at} is wanted")
    kept = f"kept for `export --trial {found['number']}`" if found["weights"] else "not kept"
    many = (
        f"None of the {found['trials']} complete trials satisfies"
        if found["trials"] > 1
        else "The one complete trial breaks"
    )
    nearest = f"Nearest is trial {found['number']}: {', '.join(values)}; its weights are {kept}."
    return [
        f"{many} the study's constraints: {', '.join(counts)}.",
        f"{nearest} Loosen the constraints, or search on.",
    ]


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


def hypervolume_gain(volume: Mapping[str, Any] | None) -> float | None:
    """By how many percent the front's hypervolume is above the anchors'; None where that would mislead.

    One anchor spans no front, and differences within the error of measuring are no gain.
    """
    if volume is None or volume["num_anchors"] < 2 or not volume["told_apart"] or not volume["anchors"]:
        return None
    return float(100 * (volume["front"] / volume["anchors"] - 1))


def _best(feasible: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        measured = feasible[np.isfinite(feasible[objective.name])]
        if measured.empty:
            continue
        values = measured[objective.name]
        row = measured.loc[values.idxmin() if objective.direction == "minimize" else values.idxmax()]
        spread = row.get(f"{objective.name}_spread", np.nan)
        best[objective.name] = {
            "value": float(row[objective.name]),
            "spread": None if np.isnan(spread) else float(spread),
            "number": int(row["number"]),
        }
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
        "num_anchors": len(anchors),
        "told_apart": any(_is_told_apart(row, objectives) for row in front[front["on_front"]].to_dict("records")),
        "reference": {o.name: float(s * r) for o, s, r in zip(objectives, signs, reference, strict=True)},
    }


def _is_told_apart(row: Mapping[Any, Any], objectives: Sequence[Objective]) -> bool:
    """Whether a searched member of the front is better than its nearest anchor in any objective, and told apart."""
    if not isinstance(row["nearest_anchor"], str):
        return False
    return any(
        row.get(f"told_apart_{one.name}", True) is not False and row[f"gain_{one.name}"] > 0 for one in objectives
    )


def _feasible_and_measured(front: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    measured = np.isfinite(loss_matrix(front, objectives)).all(axis=1)
    return front[front["feasible"].to_numpy(dtype=bool) & measured]

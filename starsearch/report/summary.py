"""A study in a few numbers: the best, the front's volume, what halving saved, failures, how well predictions fit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from starsearch.objective import Objective, miss
from starsearch.pareto import hypervolume
from starsearch.quantities import quantity
from starsearch.records.table import EXCESS
from starsearch.report.front import FloatArray, errors_of, loss_matrix
from starsearch.resources import shipped_names
from starsearch.search.compute import Compute
from starsearch.study.spec import StudySpec

# Share of the front's range by which the reference point lies beyond its worst values: with 0 the extreme
# points would count for nothing. 1.1 is the customary place on the range scaled to [0, 1]: Ishibuchi et al., "How
# to specify a reference point in hypervolume calculation for fair performance comparison", Evolutionary
# Computation 26(3), 2018.
_REFERENCE_MARGIN = 0.1
# At the end of a reason, another for every trial.
_LOG = r" \(logs/[^)]*\)$"
_CONFIDENCE = 0.9  # of prediction intervals
_SIGNIFICANCE = 0.01  # how often a profile that holds is called broken


def best_values(complete: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, dict[str, Any]]:
    """Return by objective the best feasible `value`, its `spread` and its trial's `number`; nothing if unmeasured."""
    best: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        measured = complete[complete["feasible"] & np.isfinite(complete[objective.name])]
        if measured.empty:
            continue
        at = loss_matrix(measured, [objective])[:, 0].argmin()
        spread = errors_of(measured, objective.name).iloc[at]
        best[objective.name] = {
            "value": float(measured[objective.name].iloc[at]),
            "spread": None if np.isnan(spread) else float(spread),
            "number": int(measured["number"].iloc[at]),
        }
    return best


def compare_hypervolumes(front: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, Any]:
    """Return the hypervolume of the front and of the feasible anchors alone, in the product of the objectives' units.

    Args:
        front: `front_table`'s, with at least one member.
        objectives: the study's.

    Returns:
        `front`, `anchors`, `num_anchors`, the common `reference` point by objective (the worst value of any front
        member or feasible anchor, and a tenth of the range beyond), and `told_apart`: whether any searched member is
        better than its nearest anchor in an objective, and told apart from it there.
    """
    measured = np.isfinite(loss_matrix(front, objectives)).all(axis=1)
    judged = front[front["feasible"].to_numpy(dtype=bool) & measured]
    values = loss_matrix(judged, objectives)
    spans = values.max(axis=0) - values.min(axis=0)
    reference: FloatArray = values.max(axis=0) + np.where(spans > 0, _REFERENCE_MARGIN * spans, 1.0)
    anchors = values[judged["anchor"].notna().to_numpy()]
    signs = [1 if objective.direction == "minimize" else -1 for objective in objectives]
    return {
        "front": float(hypervolume(values[judged["on_front"].to_numpy()], reference)),
        "anchors": float(hypervolume(anchors, reference)) if len(anchors) else 0.0,
        "num_anchors": len(anchors),
        "told_apart": any(_is_better(row, objectives) for row in front[front["on_front"]].to_dict("records")),
        "reference": {o.name: float(s * r) for o, s, r in zip(objectives, signs, reference, strict=True)},
    }


def _is_better(row: Mapping[Any, Any], objectives: Sequence[Objective]) -> bool:
    return isinstance(row["nearest_anchor"], str) and any(
        row.get(f"told_apart_{one.name}", True) is not False and row[f"gain_{one.name}"] > 0 for one in objectives
    )


def hypervolume_gain(volume: Mapping[str, Any] | None) -> float | None:
    """Return by how many percent the front's hypervolume is above the anchors'; None where that would mislead.

    One anchor spans no front, and differences within the error of measuring are no gain.
    """
    if volume is None or volume["num_anchors"] < 2 or not volume["told_apart"] or not volume["anchors"]:
        return None
    return float(100 * (volume["front"] / volume["anchors"] - 1))


def nearest_miss(trials: pd.DataFrame) -> dict[str, Any] | None:
    """Return which constraints all of some trials break and which comes nearest; None where one is feasible.

    `trials`: how many; `number` of the nearest, `weights`: its file, or None; `broken`: the constraints that are
    broken, each with its `quantity`, `bound` ("max" or "min"), `limit`, the `count` of trials that break it and the
    `value` of the nearest, by the share of a limit by which the worst one is broken.
    """
    excess = trials[[str(column) for column in trials if str(column).startswith(EXCESS)]].astype(float)
    if trials.empty or trials["feasible"].any() or excess.empty:
        return None
    bounds = {str(name): str(name).removeprefix(EXCESS).rpartition(".")[::2] for name in excess}
    signs = {name: 1 if end == "max" else -1 for name, (_, end) in bounds.items()}
    limits = {name: float((trials[of] - signs[name] * excess[name]).median()) for name, (of, _) in bounds.items()}
    worst = [miss({str(name): by for name, by in row.items()}, limits) for row in excess.to_dict("records")]
    nearest = trials.assign(worst=worst).sort_values(["worst", "number"]).iloc[0]
    return {
        "trials": len(trials),
        "number": int(nearest["number"]),
        "weights": nearest["weights"] if isinstance(nearest.get("weights"), str) else None,
        "broken": [
            {"quantity": of, "bound": end, "limit": limits[name], "count": int(count), "value": float(nearest[of])}
            for name, (of, end) in bounds.items()
            if (count := (excess[name] > 0).sum())
        ],
    }


def miss_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return in sentences by how much a study misses its constraints (`StudyView.summary`); none where it does not."""
    lines = []
    if found := summary["miss"]:
        many = f"None of the {found['trials']} complete trials satisfies" if found["trials"] > 1 else None
        broken, nearest = _miss_words(found)
        kept = f"; its weights are kept for `export --trial {found['number']}`" if found["weights"] else ""
        lines += [f"{many or 'The one complete trial breaks'} the study's constraints: {broken}."]
        lines += [f"{nearest}{kept}. Loosen the constraints, search on, or change the space."]
    if found := summary["untrained_miss"]:
        broken, nearest = _miss_words(found)
        bounds = {one["bound"] for one in found["broken"]}
        towards = "smaller" if bounds == {"max"} else "larger" if bounds == {"min"} else "other"
        were = "1 trial was" if found["trials"] == 1 else f"{found['trials']} trials were"
        lines += [f"{were} not trained, for what is known before breaks the study's constraints: {broken}."]
        lines += [f"{nearest}. Loosen the constraints, or widen the space towards {towards} networks."]
    return lines


def _miss_words(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return how many trials break which constraint, and by how much the nearest does."""
    counts, values = [], []
    for one in found["broken"]:
        shown = quantity(one["quantity"])
        limit, value = (f"{one[key] * shown.scale:.4g} {shown.unit}".rstrip() for key in ("limit", "value"))
        at = f"at {'most' if one['bound'] == 'max' else 'least'} {limit}"
        counts.append(f"{one['count']} break{'s' if one['count'] == 1 else ''} {shown.label} {at}")
        values.append(f"{shown.label} {value} where {at} is wanted")
    return ", ".join(counts), f"Nearest is trial {found['number']}: {', '.join(values)}"


def count_words(found: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return how many trials ended how, in words; of `StudyView.summary`."""
    words = {
        "complete": "complete",
        "failed": "failed",
        "infeasible": "break a constraint",
        "interrupted": "interrupted (run again when the study goes on)",
        "repeated": "interrupted (repeated by a later trial)",
        "stopped": "stopped at a rung",
        "unfinished": "unfinished",
        "untrained": "not trained, for they break a constraint before that",
        "foreign": "foreign (of other programs)",
    }
    return [(found[name], said) for name, said in words.items() if found[name] or name in ("complete", "failed")]


def failure_reasons(trials: pd.DataFrame) -> pd.DataFrame:
    """Return why trials failed, most frequent first: columns `reason` (its first line), `count`, `numbers` (a list)."""
    failed = trials[trials["state"] == "FAIL"]
    reasons = failed["reason"].fillna("no reason was recorded").astype(str).str.split("\n").str[0]
    grouped = failed.assign(reason=reasons.str.replace(_LOG, "", regex=True)).groupby("reason")["number"]
    found = pd.DataFrame({"count": grouped.size(), "numbers": grouped.agg(list)}).reset_index()
    return found.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def halving_lines(trials: pd.DataFrame, spec: StudySpec) -> list[str]:
    """Return how many candidates reached which rung, and the epochs that this took; none without successive halving."""
    if spec.halving is None or "rung" not in trials:
        return []
    ended = trials[trials["anchor"].isna() & trials["state"].isin(["PRUNED", "COMPLETE"])]
    is_stopped = ended["state"] == "PRUNED"
    if not is_stopped.any():
        return []
    went_on = trials["continues"].dropna()
    rungs = []
    for rung, epochs in enumerate(one.epochs for one in spec.halving.rungs):
        here = ended["number"][is_stopped & (ended["rung"] == rung)]
        at = f"{epochs} epoch{'s' if epochs > 1 else ''}"
        rungs.append(f"{len(here)} reached {at}, {here.isin(went_on).sum()} of them went on")
    compute, num_rungs = Compute(spec), len(spec.halving.rungs)
    stops = (ended["rung"].where(is_stopped, num_rungs) + 1).astype(int)
    begins = ended["continues"].map(dict(zip(ended["number"], stops, strict=True))).fillna(0).astype(int)
    trained = sum(compute.work(*part) for part in zip(begins, stops, strict=True))
    whole = (begins == 0).sum() * spec.num_epochs
    saved = f"{round(trained, 1):g} of the {whole} epochs ({trained / whole:.0%})"
    return [
        f"Successive halving (eta {spec.halving.eta}): {'; '.join(rungs)}.",
        f"Trained {saved} that training all of them to the end takes.",
    ]


def prediction_errors(trials: pd.DataFrame, front: pd.DataFrame, spec: StudySpec) -> dict[str, dict[str, Any]]:
    """Return by predicted quantity how far off the predictions were, ready for JSON.

    `networks` that were measured after they had been predicted, `mape_percent` (mean absolute error in percent of the
    measured value; None without any), `inside` (how many lie in their 90 % interval), `only_predicted` (front members
    that were not measured), `corrected_percent` (by how much the measured ones move the other predictions; None without
    others) and `repair` (the command that makes a better profile where more lie outside than chance explains; else
    None).
    """
    from scipy.stats import binom

    members = front["number"][front["on_front"]]
    found: dict[str, dict[str, Any]] = {}
    for name in (str(column).removesuffix("_predicted") for column in trials if str(column).endswith("_predicted")):
        pairs = predicted_and_measured(trials, name)
        inside = int(pairs["measured"].between(pairs["low"], pairs["high"]).sum())
        unmeasured = trials[trials[f"{name}_kind"] == "predicted"]
        moved = (unmeasured[name] / unmeasured[f"{name}_predicted"]).median() if len(pairs) else np.nan
        chance = binom.sf(len(pairs) - inside - 1, len(pairs), 1 - _CONFIDENCE) if len(pairs) else 1.0
        found[name] = {
            "networks": len(pairs),
            "mape_percent": float(pairs["error_percent"].abs().mean()) if len(pairs) else None,
            "inside": inside,
            "only_predicted": int(unmeasured["number"].isin(members).sum()),
            "corrected_percent": float(100 * (moved - 1)) if np.isfinite(moved) else None,
            "repair": _repair(trials, name, spec) if chance < _SIGNIFICANCE else None,
        }
    return found


def _repair(trials: pd.DataFrame, name: str, spec: StudySpec) -> str:
    """Return the command that adapts a profile to what it was measured to be wrong about."""
    profile = next((one.device for one in spec.objectives if one.name == name), None)
    base = profile if profile in shipped_names("profiles") else f"{profile or 'PROFILE'}.yaml"
    options = f"--from {base}"  # older studies do not say which files
    if name in spec.profile_files:
        options = f"--from {shlex.quote(spec.profile_files[name])} --space {shlex.quote(spec.space_file)}"
    command = f"starsearch latency fit --out {profile or 'better'}-2.yaml {options}"
    if f"{name}_runs" in trials and trials[f"{name}_runs"].notna().any():  # measured in pairs, so `fit` can do it too
        return f"{command} --budget 10"
    return f'{command} --measurements FILE.csv --device "WHAT WAS MEASURED"'


def predicted_and_measured(trials: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a row a network that was predicted and then measured.

    The columns are `number`, `architecture_text`, `measured`, `predicted`, `low`, `high` (of the 90 % interval) and
    `error_percent`, positive where the prediction was too large.
    """
    rows = trials[trials[f"{name}_predicted"].notna() & (trials[f"{name}_kind"] == "measured")]
    columns = {"number": "number", "architecture_text": "architecture_text", name: "measured"}
    columns |= {f"{name}_{end}": end for end in ("predicted", "low", "high", "error_percent")}
    # Reindexed: a study of which nothing has been measured has no column of errors.
    pairs = rows.drop_duplicates("architecture").reindex(columns=list(columns))
    return pairs.rename(columns=columns).reset_index(drop=True)


def prediction_lines(errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what `prediction_errors` found, a line a quantity."""
    return [_line(quantity(name).label, found) for name, found in errors.items()]


def _line(label: str, found: Mapping[str, Any]) -> str:
    networks, only = found["networks"], found["only_predicted"]
    if not networks:
        return f"{label} is predicted; none of it has been measured."
    text = (
        f"{label}: predictions were off by {found['mape_percent']:.1f} % on average over {networks} measured "
        f"network{'' if networks == 1 else 's'}; {found['inside']} of them within the 90 % interval."
    )
    if only:
        text += f" {only} on the front {'is' if only == 1 else 'are'} predicted only."
    if (corrected := found["corrected_percent"]) is not None:
        text += f" What was not measured is corrected accordingly, by {corrected:+.1f} % (median)."
    if found["repair"] is not None:
        text += f" The profile does not hold; repair it: {found['repair']}"
    return text

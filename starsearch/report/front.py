"""The front as a table: who is on it, beside which published network, and what is gained over it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from starsearch.errors import StudyError
from starsearch.families.family import presets
from starsearch.measurement import is_told_apart
from starsearch.objective import INT8_LATENCY, Objective, is_latency
from starsearch.pareto import non_dominated
from starsearch.quantities import quantity
from starsearch.recipe import value_text
from starsearch.records.table import READING_SUFFIXES, reading_names

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RECIPE_COLUMN = "params_recipe."
_IDENTITY = ("anchor", "number", "architecture_text", "architecture")
_Z90 = 1.645  # standard errors to each side of a 90 % interval's middle
_COSTS = ("macs", "num_params", "published_macs", "published_num_params")


def front_table(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """Return the feasible non-dominated trials and every anchor, best in the first minimised objective first.

    With one objective the front is a single value, so every feasible trial is a row: a ranking. A trial that lacks an
    objective (NaN) or has an infinite one is never on the front. Of trials with equal architectures and equal values
    the anchor stays, else the first.

    Returns:
        `rank` (from 1 among front members, in a ranking among feasible trials; <NA> for other anchors), `anchor`,
        `number`, `architecture_text`, `architecture`, each objective and further latency with its suffixes
        (`starsearch.records.table.load_trials`), `macs`, `num_params`, `published_macs`, `published_num_params`,
        `nearest_anchor` (Euclidean over the objectives scaled by their range over front and anchors; missing for
        anchors), `gain_NAME` over it for each objective, positive where better, `gain_STEM_percent` of the anchor's
        value where the unit is not already percent, `told_apart_NAME` of objectives with a `_spread`: whether that gain
        is (`is_told_apart`), for up to two objectives `told_apart_from_previous`: whether each value of a ranked row is
        from that of the row before it, `params_recipe.X` of each searched field of the recipe, `feasible`, `on_front`.

    Raises:
        StudyError: the trials are of several fidelities, whose values cannot be compared.
    """
    complete = complete_trials(trials, objectives)
    values = loss_matrix(complete, objectives)
    eligible = np.isfinite(values).all(axis=1) & complete["feasible"].to_numpy(dtype=bool)
    eligible &= ~_repeats(complete, objectives)
    on_front = np.zeros(len(values), dtype=bool)
    on_front[eligible] = non_dominated(values[eligible])
    members = eligible if len(objectives) == 1 else on_front
    complete = complete.assign(on_front=on_front, member=members)

    order = _display_order(values, complete["number"].to_numpy(), objectives)
    order = order[(members | complete["anchor"].notna().to_numpy())[order]]
    table = complete.iloc[order].reset_index(drop=True)
    table["rank"] = table["member"].cumsum().where(table["member"]).astype("Int64")
    gains = _gains_over_nearest_anchor(table, values[order], objectives)
    if len(objectives) <= 2:
        gains["told_apart_from_previous"] = _told_apart_from_previous(table, values[order], objectives)
    table = table.assign(**gains)
    return table[[column for column in _columns(table, objectives) if column in table]]


def complete_trials(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """Return the COMPLETE rows with `feasible` as bool and a column (NaN if need be) an objective.

    An anchor trained by several recipes is shown by its best row: feasible, then by the objectives in order.
    """
    wanted = ["state", "fidelity", "feasible", *_IDENTITY, *(objective.name for objective in objectives)]
    trials = trials.reindex(columns=[*trials.columns, *(name for name in wanted if name not in trials)])
    complete = trials[trials["state"] == "COMPLETE"].reset_index(drop=True)
    fidelities = sorted(complete["fidelity"].dropna().unique())
    if len(fidelities) > 1:
        raise StudyError(f"A front holds trials of one fidelity; these are of {', '.join(fidelities)}. Choose one.")
    numbers = {objective.name: complete[objective.name].astype(float) for objective in objectives}
    complete = complete.assign(feasible=complete["feasible"].astype("boolean").fillna(False).astype(bool), **numbers)
    best_first = np.lexsort((*reversed(loss_matrix(complete, objectives).T), ~complete["feasible"].to_numpy()))
    anchors = complete["anchor"].iloc[best_first]
    worse = anchors.notna() & anchors.duplicated()
    return complete.drop(index=anchors.index[worse]).reset_index(drop=True)


def anchor_recipe_note(trials: pd.DataFrame) -> str | None:
    """Return by which recipes the published networks were trained if the candidates' are searched, else None."""
    searched = [str(column) for column in trials if str(column).startswith(RECIPE_COLUMN)]
    complete = trials[trials["state"] == "COMPLETE"]
    recipes = complete[complete["anchor"].isin(list(presets()))].drop_duplicates(["anchor", *searched])
    if not searched or recipes.empty:
        return None
    most = int(recipes.groupby("anchor").size().max())
    if most > 1:
        return f"Each published network is shown by the best of up to {most} recipes, the candidates by searched ones."
    own = recipes.iloc[0][searched].items()
    words = ", ".join(f"{str(name).removeprefix(RECIPE_COLUMN)} {_recipe_text(value)}" for name, value in own)
    return (
        f"The published networks are trained by the study's own recipe ({words}), the candidates by searched ones: "
        "part of a difference may be the recipe's. In a study file, anchors: {recipe: searched} searches theirs too."
    )


def _recipe_text(value: Any) -> str:
    return value_text(None if value != value else getattr(value, "item", lambda: value)())


def loss_matrix(rows: pd.DataFrame, objectives: Sequence[Objective]) -> FloatArray:
    """Return the objectives' values as (n, m) losses, all minimised; NaN where one was not measured.

    An estimate counts as its lower end (`starsearch.measurement.Prediction.ranked`).
    """
    signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in objectives]
    values: FloatArray = np.column_stack([ranked_values(rows, objective.name) for objective in objectives]) * signs
    return values


def ranked_values(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return the values of a quantity by which rows are compared: of estimates the lower ends."""
    values = rows[name].astype(float)
    return values.mask(rows[f"{name}_kind"].eq("estimated"), rows[f"{name}_low"]) if f"{name}_kind" in rows else values


def knee(front: pd.DataFrame, objectives: Sequence[Objective]) -> int:
    """Return the number of the front member that bulges furthest from the plane through the objectives' optima.

    The objectives are scaled to [0, 1] over the front, where that plane is `sum(losses) = 1`: I. Das, "On
    characterizing the 'knee' of the Pareto curve based on normal-boundary intersection", Structural Optimization 18,
    1999. Ties (two points, a straight or hollow front) go to the best first objective, then to the lowest number; with
    one objective it is the best trial. Dominated anchors are ignored.
    """
    members = front[front["on_front"]]
    if members.empty:
        raise StudyError("The front is empty, so it has no knee: no feasible trial has completed.")
    values = loss_matrix(members, objectives)
    # Rounded, so that what differs by floating-point noise only counts as a tie.
    totals = (values - values.min(axis=0)).dot(1 / _ranges(values)).round(9)
    best = np.lexsort((members["number"].to_numpy(), values[:, 0], totals))[0]
    return int(members["number"].iloc[best])


def errors_of(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return the standard errors of a quantity's values; NaN where there is none."""
    column = f"{name}_spread"
    return rows[column].astype(float) if column in rows else pd.Series(np.nan, index=rows.index)


def draw_errors(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return the standard errors of a quantity's values, those of predictions and estimates by their 90 % intervals."""
    found = errors_of(rows, name)
    if f"{name}_low" not in rows or f"{name}_kind" not in rows:
        return found
    wide = (rows[f"{name}_high"] - rows[f"{name}_low"]) / (2 * _Z90)
    return found.where(~rows[f"{name}_kind"].isin(["predicted", "estimated"]), wide.astype(float))


def further_latencies(rows: pd.DataFrame, objectives: Sequence[Objective]) -> list[str]:
    """Return the latencies that are known of any row and are no objectives."""
    optimised = {objective.name for objective in objectives}
    names = [name for name in reading_names(map(str, rows)) if is_latency(name) or name == INT8_LATENCY]
    return [name for name in names if name not in optimised and rows[name].notna().any()]


def _repeats(complete: pd.DataFrame, objectives: Sequence[Objective]) -> BoolArray:
    """Return which searched rows repeat the architecture and the values of an anchor or of an earlier row."""
    searched = complete["anchor"].isna()
    recipe = [str(column) for column in complete if str(column).startswith(RECIPE_COLUMN)]
    keys = ["architecture", *recipe, *(objective.name for objective in objectives)]
    anchors_first = complete.assign(searched=searched).sort_values(["searched", "number"])
    repeated: BoolArray = anchors_first.duplicated(keys).reindex(complete.index).to_numpy(dtype=bool)
    return repeated & searched.to_numpy(dtype=bool)


def _display_order(values: FloatArray, numbers: NDArray[Any], objectives: Sequence[Objective]) -> NDArray[np.intp]:
    """Order rows by the first minimised objective (the first where none is), then the others; NaN last."""
    first = next((i for i, objective in enumerate(objectives) if objective.direction == "minimize"), 0)
    others = [i for i in range(len(objectives)) if i != first]
    return np.lexsort((numbers, *(values[:, i] for i in reversed(others)), values[:, first]))


def _ranges(values: FloatArray) -> FloatArray:
    """Return each objective's range over the rows; 1 where all are equal, so that it can be divided by."""
    spans: FloatArray = values.max(axis=0) - values.min(axis=0)
    return np.where(spans > 0, spans, 1.0)


def _gains_over_nearest_anchor(
    table: pd.DataFrame, values: FloatArray, objectives: Sequence[Objective]
) -> dict[str, Any]:
    """Return the columns `nearest_anchor`, `gain_…` and `told_apart_NAME` of `table`, whose losses are `values`."""
    finite = np.isfinite(values).all(axis=1)
    is_anchor = table["anchor"].notna().to_numpy(dtype=bool)
    anchors, rows = np.flatnonzero(finite & is_anchor), np.flatnonzero(finite & ~is_anchor)
    nearest: NDArray[Any] = np.full(len(table), None, dtype=object)
    gains, shares = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    closest = anchors[:0]
    if anchors.size and rows.size:
        scaled = values / _ranges(values[finite])
        closest = anchors[np.linalg.norm(scaled[rows, None] - scaled[None, anchors], axis=2).argmin(axis=1)]
        nearest[rows] = table["anchor"].to_numpy()[closest]
        gains[rows] = values[closest] - values[rows]
        size = np.abs(values[closest])
        shares[rows] = 100 * np.divide(gains[rows], size, out=np.full(size.shape, np.nan), where=size > 0)
    columns: dict[str, Any] = {"nearest_anchor": nearest}
    for i, objective in enumerate(objectives):
        columns[f"gain_{objective.name}"] = gains[:, i]
        if f"{objective.name}_spread" in table and closest.size:
            errors = errors_of(table, objective.name).to_numpy()
            apart: NDArray[Any] = np.full(len(table), None, dtype=object)
            for row, near in zip(rows, closest, strict=True):
                apart[row] = is_told_apart(gains[row, i], errors[row], errors[near])
            columns[f"told_apart_{objective.name}"] = apart
        if quantity(objective.name).unit != "%":
            columns[f"gain_{quantity(objective.name).stem}_percent"] = shares[:, i]
    return columns


def _told_apart_from_previous(
    table: pd.DataFrame, values: FloatArray, objectives: Sequence[Objective]
) -> NDArray[np.object_]:
    """Return whether every value of each ranked row is told apart from that of the row before; None of the first."""
    errors = np.transpose([errors_of(table, objective.name) for objective in objectives])
    apart: NDArray[np.object_] = np.full(len(table), None, dtype=object)
    for before, row in itertools.pairwise(np.flatnonzero(table["member"].to_numpy(dtype=bool))):
        apart[row] = all(map(is_told_apart, values[row] - values[before], errors[before], errors[row]))
    return apart


def _columns(table: pd.DataFrame, objectives: Sequence[Objective]) -> list[str]:
    """Return the columns of a front in their order."""
    names, found = [objective.name for objective in objectives], ["rank", *_IDENTITY]
    for name in (*names, *further_latencies(table, objectives)):
        found += [f"{name}{end}" for end in ("", *READING_SUFFIXES)]
    found += [*_COSTS, "nearest_anchor"]
    for name in names:
        found += [f"gain_{name}", f"gain_{quantity(name).stem}_percent", f"told_apart_{name}"]
    found.append("told_apart_from_previous")
    found += [str(column) for column in table if str(column).startswith((RECIPE_COLUMN, "params_resolution"))]
    return list(dict.fromkeys([*found, "feasible", "on_front"]))

"""What the page says beyond the front: hypervolume over time, what matters, and what each network is made of."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from starsearch.errors import StarsearchError
from starsearch.families.family import lower
from starsearch.families.layers import BRANCH_OPS, OPS, Layer
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.predict import predict_by_layer, predict_latency
from starsearch.latency.prediction.profile import DeviceProfile
from starsearch.latency.prediction.terms import layer_kinds
from starsearch.objective import Objective
from starsearch.pareto import hypervolume, non_dominated
from starsearch.records.storage import quiet_optuna
from starsearch.records.trials import parameter_distributions
from starsearch.report.front import loss_matrix
from starsearch.report.table import plain_rows
from starsearch.report.view import StudyView
from starsearch.resolution import of_sides, recorded
from starsearch.space.space import RESOLUTION

PARAMETER = "params_"
_LEAST = 10  # trials from which PED-ANOVA says anything
_TOP = 5  # trials at least that it compares with the others; Optuna's documentation advises so
_VARIED = 12  # networks whose dimensions are changed one at a time


def hypervolume_history(view: StudyView) -> pd.DataFrame:
    """Return the hypervolume after each trial, of a study with a front: `number`, `hours` (spent so far), `volume`."""
    assert view.hypervolume is not None
    signs = np.array([1.0 if one.direction == "minimize" else -1.0 for one in view.objectives])
    reference = signs * list(view.hypervolume["reference"].values())
    values = loss_matrix(view.complete, view.objectives)
    counts = view.complete["feasible"].to_numpy(bool) & (values <= reference).all(axis=1)
    by_number = dict(zip(view.complete["number"][counts], values[counts], strict=True))
    front, volume, volumes = np.empty((0, len(signs))), 0.0, []
    ordered = view.trials.sort_values("number")
    for number in ordered["number"]:
        new = by_number.get(number)
        if new is not None and not (front <= new).all(axis=1).any():
            front = np.vstack([front, new])
            front = front[non_dominated(front)]
            volume = hypervolume(front, reference)
        volumes.append(volume)
    hours = ordered["seconds"].fillna(0).astype(float).cumsum() / 3600
    return pd.DataFrame({"number": ordered["number"], "hours": hours, "volume": volumes})


def what_matters(view: StudyView) -> dict[str, tuple[str, dict[str, float]]]:
    """Return by objective how importance was found, in words, and each dimension's; nothing of too few trials.

    Of a latency that a profile predicts it is by how many milliseconds the dimension alone changes a network; of
    anything else PED-ANOVA's share (Watanabe et al., "PED-ANOVA", IJCAI 2023), by Optuna.
    """
    found = {}
    for objective in view.objectives:
        if (profile := view.spec.profiles.get(objective.name)) is not None:
            how = f"ms that a dimension alone changes a network of the study, by the profile {profile.name} (median)"
            importances = _latency_ranges(view, profile)
        else:
            how, importances = "PED-ANOVA: share in being among the best tenth", _ped_anova(view, objective)
        if any(value > 0 for value in importances.values()):
            found[objective.name] = (how, dict(sorted(importances.items(), key=lambda item: item[1])))
    return found


def _latency_ranges(view: StudyView, profile: DeviceProfile) -> dict[str, float]:
    space = view.spec.space
    slots = {PARAMETER + one.name: one for one in space.parameters if one not in space.recipe_parameters}
    networks = plain_rows(view.complete.reindex(columns=list(slots)).dropna().convert_dtypes())  # integers again
    ranges: dict[str, list[float]] = {}
    with suppress(StarsearchError):  # of a layer that the profile has no term for
        for row, (name, slot) in itertools.product(networks[:: len(networks) // _VARIED + 1], slots.items()):
            ms = []
            for value in slot.values or ():
                changed = _params(row | {name: value})
                sizes = _deployed(view, space.resolution_in(changed))
                ms.append(predict_latency(profile, space.decode_architecture(changed), **sizes).value)
            ranges.setdefault(slot.name, []).append(max(ms, default=0.0) - min(ms, default=0.0))
    return {name: float(np.median(found)) for name, found in ranges.items()}


def _params(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(PARAMETER): value for name, value in row.items()}


def _ped_anova(view: StudyView, objective: Objective) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    losses = loss_matrix(view.complete, [objective])[:, 0]
    measured = view.complete[np.isfinite(losses)]
    searched = {PARAMETER + name: one for name, one in parameter_distributions(view.spec.space.parameters).items()}
    distributions = {name: one for name, one in searched.items() if name in measured and len(set(measured[name])) > 1}
    if len(measured) < _LEAST or not distributions:
        return {}
    with quiet_optuna(), warnings.catch_warnings(action="ignore"):  # Optuna calls the evaluator experimental
        study = optuna.create_study()
        for row, loss in zip(plain_rows(measured), losses[np.isfinite(losses)], strict=True):
            known = {name: row[name] for name in distributions if row[name] is not None}
            of = {name: distributions[name] for name in known}
            study.add_trial(optuna.trial.create_trial(value=loss, params=known, distributions=of))
        share = min(max(0.1, _TOP / len(measured)), 0.5)
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share))
    return _params(found)


def stages(view: StudyView, row: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return a trial's stages in order: name, channels, pixels, blocks, what joins branches, cost by kind of layer.

    The cost is in milliseconds where a profile predicts one of the study's latencies, else in 10⁶ multiply-adds.
    """
    architecture, profile = parse_architecture(row["architecture_text"]), main_profile(view)
    sizes = _deployed(view, row.get(PARAMETER + RESOLUTION))
    if profile is not None:
        costs = predict_by_layer(profile, architecture, **sizes)
    else:
        layers = lower(architecture, **sizes)
        kinds = layer_kinds(layers)
        costs = [(layer, kinds[layer.name], 1e-6 * OPS[layer.op].macs(layer)) for layer in layers]
    return [_in_short(name, list(found)) for name, found in itertools.groupby(costs, lambda cost: _stage(cost[0].name))]


def _deployed(view: StudyView, cell: Any) -> dict[str, Any]:
    """Return the resolution (of a table's cell; None: the space's) and the number of classes of a deployed network."""
    classes = len(view.attributes.get("classes", ())) or 1000
    return {"resolution": recorded(cell or view.spec.space.resolution), "num_classes": classes}


def main_profile(view: StudyView) -> DeviceProfile | None:
    """Return the profile that predicts the study's first latency, if any does."""
    return next(iter(view.spec.profiles.values()), None)


def _stage(layer: str) -> str:
    """Return "stage 1" for "stages.0.1.f1"; "stem", "blocks" and "head" for what is named so, or is behind them."""
    first, *rest = layer.split(".")
    return f"stage {int(rest[0]) + 1}" if first == "stages" else first if first in ("stem", "blocks") else "head"


def _in_short(name: str, layers: list[tuple[Layer, str, float]]) -> tuple[Any, ...]:
    joins = [layer.op for layer, _, _ in layers if layer.op in BRANCH_OPS]
    costs: dict[str, float] = {}
    for _, kind, cost in layers:
        costs[kind] = costs.get(kind, 0.0) + cost
    channels, *size = layers[-1][0].out_shape
    shown = {kind: float(f"{cost:.4g}") for kind, cost in costs.items() if cost}
    return name, channels, of_sides(*size), len(joins), ", ".join(dict.fromkeys(joins)), shown

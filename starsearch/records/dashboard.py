"""What optuna-dashboard needs to show which trials break a constraint."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from starsearch.records.trials import CONSTRAINT

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


def show_constraints(storage: BaseStorage) -> BaseStorage:
    """Return `storage`, for optuna-dashboard to read by how much trials break their constraints.

    The dashboard (0.21) looks for the list that Optuna wrote before 5.0, and takes every trial of 5.0 for feasible.
    """
    get_all_trials = storage.get_all_trials

    def get_with_list(*arguments: Any, **options: Any) -> list[FrozenTrial]:
        return [_with_list(trial) for trial in get_all_trials(*arguments, **options)]

    storage.get_all_trials = get_with_list  # type: ignore[method-assign] # for this one storage
    return storage


def _with_list(trial: FrozenTrial) -> FrozenTrial:
    if not trial.constraints:
        return trial
    shown = copy.copy(trial)  # a storage may keep its own
    others = {key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)}
    shown._system_attrs = {**others, "constraints": list(trial.constraints.values())}
    return shown

"""Every call of Optuna that is not public, read against 5.0: starting and ending a trial in one transaction each.

Optuna's public calls commit each parameter, attribute and state by itself: some thirty transactions a trial.
Storages that are no relational databases are written by public calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session


def create_trial(storage: BaseStorage, study_id: int, trial: FrozenTrial) -> tuple[int, int]:
    """Id and number of a new running trial with the parameters, user attributes and intermediate values of `trial`."""
    if not isinstance(storage, RDBStorage):
        trial_id = storage.create_new_trial(study_id, trial)
        return trial_id, storage.get_trial_number_from_id(trial_id)
    with _create_scoped_session(storage.scoped_session) as session:
        # Held until the commit, so that no two trials get one number.
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        number = session.scalar(select(func.count()).where(models.TrialModel.study_id == study_id))
        assert number is not None
        row: Any = models.TrialModel(
            study_id=study_id, number=number, state=TrialState.RUNNING, datetime_start=trial.datetime_start
        )
        session.add(row)
        session.flush()
        trial_id = int(row.trial_id)
        _insert(session, models.TrialParamModel, _parameter_rows(trial_id, trial))
        _insert(session, models.TrialUserAttributeModel, _attribute_rows(trial_id, trial.user_attrs))
        _insert(session, models.TrialIntermediateValueModel, _curve_rows(trial_id, trial.intermediate_values))
        return trial_id, int(number)


def trial_id(trial: FrozenTrial) -> int:
    """The storage's own id of a trial, which is not its number."""
    return trial._trial_id


def finish_trial(
    storage: BaseStorage,
    trial_id: int,
    state: TrialState,
    *,
    values: Sequence[float] | None,
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> None:
    """Write the attributes, none of which the trial has yet, and end the trial.

    Raises:
        UpdateFinishedTrialError: the trial has ended before.
    """
    if not isinstance(storage, RDBStorage):
        for key, value in user_attrs.items():
            storage.set_trial_user_attr(trial_id, key, value)
        for key, value in system_attrs.items():
            storage.set_trial_system_attr(trial_id, key, value)
        storage.set_trial_state_values(trial_id, state, values)
        return
    with _create_scoped_session(storage.scoped_session) as session:
        # First, and by a statement that writes: SQLite begins no transaction to read, and another driver that has
        # taken the study meanwhile may end the trial between the two.
        ended: Any = session.execute(
            update(models.TrialModel)
            .where(models.TrialModel.trial_id == trial_id, models.TrialModel.state == TrialState.RUNNING)
            .values(state=state)
        )
        if ended.rowcount == 0:
            raise UpdateFinishedTrialError("The trial has already finished and can not be updated.")
        row: Any = models.TrialModel.find_or_raise_by_id(trial_id, session)
        row.datetime_complete = datetime.now(UTC)  # a property, which knows how times are stored
        _insert(session, models.TrialUserAttributeModel, _attribute_rows(trial_id, user_attrs))
        _insert(session, models.TrialSystemAttributeModel, _attribute_rows(trial_id, system_attrs))
        _insert(session, models.TrialValueModel, _value_rows(trial_id, values or ()))


def report_value(storage: BaseStorage, trial_id: int, step: int, value: float) -> None:
    """Write an intermediate value; `Trial.report` refuses to with more than one objective."""
    storage.set_trial_intermediate_value(trial_id, step, value)


def set_metric_names(storage: BaseStorage, study_id: int, names: Sequence[str]) -> None:
    """Name the objectives; `Study.set_metric_names` without its warning of being experimental."""
    storage.set_study_system_attr(study_id, "study:metric_names", list(names))


def _insert(session: Session, table: Any, rows: Iterable[dict[str, Any]]) -> None:
    if rows := list(rows):
        session.execute(insert(table), rows)


def _parameter_rows(trial_id: int, trial: FrozenTrial) -> Iterable[dict[str, Any]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        yield {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }


def _attribute_rows(trial_id: int, attributes: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for key, value in attributes.items():
        yield {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _curve_rows(trial_id: int, values: Mapping[int, float]) -> Iterable[dict[str, Any]]:
    for step, value in values.items():
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        yield {
            "trial_id": trial_id,
            "step": step,
            "intermediate_value": stored,
            "intermediate_value_type": kind,
        }


def _value_rows(trial_id: int, values: Sequence[float]) -> Iterable[dict[str, Any]]:
    for objective, value in enumerate(values):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}

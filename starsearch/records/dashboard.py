"""What optuna-dashboard shows of a study beside its trials: a note, the front's picture, broken constraints."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from starsearch.records.attributes import CONSTRAINT_PREFIX
from starsearch.records.open_study import OpenStudy
from starsearch.records.storage import quiet_optuna, storage_errors

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_PICTURE = "starsearch-front"
# The note's last line: one without it is the user's own, and stays.
_OURS = "*Kept up to date by starsearch; a note of your own in its place is left alone.*"


def attach_to_dashboard(record: OpenStudy, *, note: str, picture: go.Figure | None) -> None:
    """Show `note` (Markdown) and `picture` on the study's page, in place of those before.

    Raises:
        StudyError: the storage fails.
    """
    import optuna
    from optuna_dashboard import save_note, save_plotly_graph_object
    from optuna_dashboard._note import get_note_from_system_attrs

    with storage_errors(record.url), quiet_optuna():
        study = optuna.load_study(study_name=record.name, storage=record.storage)
        there = get_note_from_system_attrs(record.storage.get_study_system_attrs(study._study_id), None)["body"]
        if not there or _OURS in there:
            save_note(study, f"{note}\n\n{_OURS}")
        if picture is not None:
            save_plotly_graph_object(study, picture, graph_object_id=_PICTURE)


def show_constraints(storage: BaseStorage) -> BaseStorage:
    """`storage`, to be read by optuna-dashboard, whose trials say there by how much they break their constraints.

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
    others = {key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT_PREFIX)}
    shown._system_attrs = {**others, "constraints": list(trial.constraints.values())}
    return shown

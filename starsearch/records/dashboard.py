"""What optuna-dashboard shows of a study beside its trials: a note and the front's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starsearch.records.open_study import OpenStudy
from starsearch.records.storage import quiet_optuna, storage_errors

if TYPE_CHECKING:
    import plotly.graph_objects as go

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

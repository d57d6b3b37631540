import optuna
import plotly.graph_objects as go

from starsearch.records import StudyRecord, attach_to_dashboard
from tests.search.studies import make_spec, url_of


def note_of(folder):
    from optuna_dashboard._note import get_note_from_system_attrs

    study = optuna.load_study(study_name="small", storage=url_of(folder))
    return get_note_from_system_attrs(study._storage.get_study_system_attrs(study._study_id), None)["body"]


def test_a_note_is_kept_up_to_date_but_a_users_own_stays(tmp_path):
    from optuna_dashboard import save_note

    spec = make_spec()
    record = StudyRecord.open(url_of(tmp_path), spec, signature=spec.space.describe())
    attach_to_dashboard(record, note="first", picture=None)
    attach_to_dashboard(record, note="second", picture=go.Figure())
    assert note_of(tmp_path).startswith("second")
    save_note(optuna.load_study(study_name="small", storage=url_of(tmp_path)), "my own words")
    attach_to_dashboard(record, note="third", picture=go.Figure())
    record.close()
    assert note_of(tmp_path) == "my own words"


def test_the_picture_is_replaced(tmp_path):
    spec = make_spec()
    record = StudyRecord.open(url_of(tmp_path), spec, signature=spec.space.describe())
    for x in (1, 2):
        attach_to_dashboard(record, note="", picture=go.Figure(go.Scatter(x=[x], y=[x])))
    attributes = record.storage.get_study_system_attrs(1)
    record.close()
    pictures = {key.rsplit(":", 1)[0] for key in attributes if key.startswith("dashboard:plot")}
    assert len(pictures) == 1

import json
import shutil
import subprocess
import threading
from contextlib import contextmanager
from io import BytesIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

import optuna
import plotly.graph_objects as go
import pytest

from starsearch.objective import Constraint
from starsearch.records import StudyRecord, attach_to_dashboard, load_trials, open_storage, show_constraints
from starsearch.records.storage import close_storage
from tests.search.studies import FakeEvaluator, make_spec, run, url_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FRONT = go.Figure(go.Scatter(x=[1], y=[2]), layout={"title": {"text": "the front"}})


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


def fail_the_narrow(candidate):
    if candidate.architecture.embed_dim == 16:
        raise ValueError("the network is no good")


@pytest.fixture
def dashboard(tmp_path):
    """The dashboard's application on a study with feasible, infeasible and failed trials, and those trials."""
    from optuna_dashboard import wsgi

    spec = make_spec(trials=11, constraints=(Constraint(name="latency_ms", high=5.0),))
    run(tmp_path, spec, FakeEvaluator(fail_the_narrow))
    record = StudyRecord.open(url_of(tmp_path), spec, signature=spec.space.describe())
    attach_to_dashboard(record, note="how far it is", picture=FRONT)
    record.close()
    storage = show_constraints(open_storage(url_of(tmp_path)))
    yield wsgi(storage), load_trials(url_of(tmp_path))
    close_storage(storage)


def test_the_dashboard_is_told_states_curves_constraints_and_reasons(dashboard):
    app, trials = dashboard
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "QUERY_STRING": "", "wsgi.input": BytesIO()}
    detail = json.loads(b"".join(app(request, lambda *_: None)))
    assert [trial["state"].upper() for trial in detail["trials"]] == trials["state"].tolist()
    assert all(trial["intermediate_values"] for trial in detail["trials"])
    for shown, kept in zip(detail["trials"], trials.itertuples(), strict=True):
        attributes = {one["key"]: one["value"] for one in shown["user_attrs"]}
        if kept.state == "FAIL":
            assert "ValueError: the network is no good" in attributes["reason"]
        else:
            (violation,) = shown["constraints"]
            assert (violation <= 0) == kept.feasible
    assert set(trials["state"]) == {"COMPLETE", "FAIL"}
    assert set(trials[trials["state"] == "COMPLETE"]["feasible"]) == {False, True}
    assert detail["note"]["body"].startswith("how far it is")
    assert len(detail["plotly_graph_objects"]) == 1


class Silent(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(app):
    with make_server("127.0.0.1", 0, app, handler_class=Silent) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/dashboard/studies/1"
        server.shutdown()
        thread.join()


def dumped_dom(address, profile):
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --window-size=1400,2000 --virtual-time-budget=8000 --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to render the page with")
def test_a_real_browser_shows_the_front_the_note_and_that_trials_are_infeasible(dashboard, tmp_path):
    app, _ = dashboard
    with served(app) as address:
        page = dumped_dom(address, tmp_path / "profile")
        assert "the front" in page
        assert ">Infeasible<" in page, "in the time line"
        assert "how far it is" in dumped_dom(f"{address}/note", tmp_path / "profile")

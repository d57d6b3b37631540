import json
from io import BytesIO

import pytest

from starsearch.objective import Constraint
from starsearch.records.storage import close_storage, open_storage
from starsearch.records.table import load_trials
from starsearch.records.trials import show_constraints
from tests.search.studies import FakeEvaluator, make_spec, run, url_of


def fail_the_narrow(candidate):
    if candidate.architecture.embed_dim == 16:
        raise ValueError("the network is no good")


@pytest.fixture
def dashboard(tmp_path):
    """The dashboard's application on a study with feasible, infeasible and failed trials, and those trials."""
    from optuna_dashboard import wsgi

    spec = make_spec(trials=11, constraints=(Constraint(name="latency_ms", high=5.0),))
    run(tmp_path, spec, FakeEvaluator(fail_the_narrow))
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

"""The public API: `import starsearch` and what a notebook does with it."""

from dataclasses import replace

import pytest

import starsearch
from starsearch.errors import SpecError, StarsearchError
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.quantities import QUANTITIES, Quantity
from starsearch.search.events import StudyEnded, TrialEnded
from tests.command_line import python

SPACE = {
    "family": "starnet",
    "dimensions": {"embed_dim": [16, 24, 32], "depths": [2, 2, {"low": 1, "high": 8}, 3]},
    "anchors": ["starnet_s1"],
}


def count(candidate, *, seed, weights, part):
    """An evaluator that trains nothing: larger networks are better, and cost more."""
    yield from ()
    macs = starsearch.count_macs(candidate.architecture)
    return Measurement(name="top1_percent", value=macs**0.1), Measurement(name="macs", value=macs)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    space = tmp_path_factory.mktemp("space") / "small.yaml"
    space.write_text(str(SPACE))  # a mapping's text is YAML, too
    said = {"space": str(space), "objectives": {"top1_percent": "maximize", "macs": "minimize"}}
    events = []
    found = starsearch.run(said, out=space.parent, name="small", trials=4, evaluator=count, watch=events.append)
    return found, events


def test_a_mapping_is_a_study_judged_by_ones_own_evaluator(study):
    found, events = study
    assert found.ended.why == "complete"
    assert (found.trials["state"] == "COMPLETE").sum() == 5
    assert sum(isinstance(event, TrialEnded) for event in events) == 5
    assert isinstance(events[-1], StudyEnded)


def test_an_opened_study_is_the_one_that_was_run(study):
    found, _ = study
    opened = starsearch.load_study(found.source)
    assert opened.front().equals(found.front())
    assert opened.best()["number"] == found.best()["number"]
    assert len(opened.plot().data) > 0
    front = opened.front()
    expected = [starsearch.count_macs(starsearch.parse_architecture(text)) for text in front["architecture_text"]]
    assert front["macs"].tolist() == expected


def test_a_spec_can_have_an_objective_of_ones_own(tmp_path):
    def judge(candidate, *, seed, weights, part):
        yield from ()
        return (Measurement(name="score", value=float(candidate.architecture.embed_dim)),)

    (spec,) = starsearch.load_specs(SPACE, name="own", trials=3)
    spec = replace(spec, objectives=(Objective(name="score", direction="maximize"),))
    found = starsearch.run(spec, out=tmp_path, evaluator=judge)
    assert found.best()["score"] == found.trials["score"].max()


def test_an_objective_is_a_row(tmp_path, monkeypatch):
    row = Quantity(name="energy_mj", label="Energy", direction="minimize", unit="mJ")
    monkeypatch.setitem(QUANTITIES, "energy_mj", row)

    def judge(candidate, *, seed, weights, part):
        yield from ()
        return (Measurement(name="energy_mj", value=float(candidate.architecture.embed_dim)),)

    space = tmp_path / "space.yaml"
    space.write_text(str(SPACE))
    said = {"space": str(space), "objectives": {"energy_mj": "minimize"}, "constraints": {"energy_mj": {"max": 30}}}
    found = starsearch.run(said, name="energy", trials=3, out=tmp_path, evaluator=judge)
    assert found.best()["energy_mj"] == found.trials["energy_mj"].min()
    assert "Energy" in (tmp_path / "energy" / "report.html").read_text()


def test_a_mapping_that_breaks_a_rule_is_refused_with_its_line():
    with pytest.raises(SpecError, match=r"line \d+.*embed_dims.*embed_dim"):
        starsearch.load_specs({**SPACE, "dimensions": {"embed_dims": [16]}})


def test_a_network_is_timed_predicted_and_counted_by_its_text_or_itself():
    text = "starnet:embed_dim=16,depths=1-1-1-1"
    network = starsearch.parse_architecture(text)
    predicted = starsearch.predict_latency("iphone", [text, network])
    assert predicted["predicted_ms"].nunique() == 1
    assert predicted["architecture"].tolist() == [starsearch.format_architecture(network)] * 2
    model = starsearch.build_model(network, num_classes=10)
    assert sum(one.numel() for one in model.parameters()) == starsearch.count_params(network, num_classes=10)


def test_every_public_name_exists_and_nothing_heavy_is_imported_for_it():
    code = (
        "import sys, starsearch\n"
        "assert not {'torch', 'optuna', 'pandas', 'timm', 'ray'} & set(sys.modules), sys.modules.keys()\n"
        "assert all(getattr(starsearch, name) is not None for name in dir(starsearch))"
    )
    assert python("-c", code).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        starsearch.runs  # noqa: B018


def test_errors_have_one_base():
    with pytest.raises(StarsearchError):
        starsearch.load_study("studies/there-is-none")


@pytest.mark.parametrize(("began_on_gpu", "precision"), [(False, "float32"), (True, "bfloat16")])
def test_a_study_is_resumed_with_the_defaults_that_it_was_begun_with(tmp_path, monkeypatch, began_on_gpu, precision):
    space = tmp_path / "space.yaml"
    space.write_text(str(SPACE))
    said = {
        "space": str(space),
        "objectives": {"top1_percent": "maximize", "macs": "minimize"},
        "fidelities": [{"epochs": 1}, {"name": "full", "epochs": 2, "promote": 2}],
    }
    options = {"name": "begun", "out": tmp_path, "evaluator": count}
    monkeypatch.setattr("torch.cuda.is_available", lambda: began_on_gpu)
    starsearch.run(said, trials=3, settings=["search.sampler=random"], **options)
    monkeypatch.setattr("torch.cuda.is_available", lambda: not began_on_gpu)
    found = starsearch.run(said, trials=4, **options)  # auto is the default here, and the other precision
    specs = [starsearch.load_study(tmp_path / f"begun{end}").view.spec for end in (".proxy", ".full")]
    assert [(spec.sampler, spec.fidelity.precision) for spec in specs] == [("random", precision)] * 2
    assert found.ended.why == "complete"
    said["fidelities"][0]["precision"] = "float16"
    with pytest.raises(StarsearchError, match=f"fidelity.precision: was {precision}, now float16"):
        starsearch.run(said, trials=4, **options)

"""Accuracy that is estimated: a study that trains nothing, and what trainings say beside it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import yaml

import starsearch
from starsearch.accuracy.evidence import published_observations
from starsearch.accuracy.posterior import fit_posterior
from starsearch.api.estimating import choose_published, keep_estimates, nearest_known, published_spec
from starsearch.api.signals import audit_signals
from starsearch.api.study import load_study, write_study_report
from starsearch.api.study_folder import open_view, place_of
from starsearch.cli.studies import print_front
from starsearch.errors import SpecError, StudyError
from starsearch.evaluators.estimate import estimate_top1
from starsearch.families.family import presets
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.profile import load_profile
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import Objective
from starsearch.records.record import StudyRecord
from starsearch.resources import find_file
from starsearch.search import estimated as choosing
from starsearch.study.study_file import load_specs

ESTIMATE = "imagenet_top1_percent"
SMALL = {
    "space": "starnet",
    "anchors": ["starnet_s1", "starnet_s2", "starnet_s4"],
    "objectives": {"top1_percent": "maximize", "macs": "minimize"},
}


def of_few(patched):
    patched.setattr(choosing, "_FIRST", 50)
    patched.setattr(choosing, "_ROUNDS", 2)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A study of published evidence alone; by MACs, since measuring takes seconds a network."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(choosing, "_FIRST", 150)
        patched.setattr(choosing, "_ROUNDS", 4)
        out = tmp_path_factory.mktemp("published")
        study = starsearch.run(SMALL, accuracy="published", name="known", trials=12, out=out)
        again = starsearch.run(SMALL, accuracy="published", name="known", trials=12, out=out)
    assert again.trials["number"].tolist() == study.trials["number"].tolist()
    return study


def test_nothing_estimated_is_recorded_as_measured(published):
    place = place_of(published.source)
    with closing(StudyRecord.find(place.url, "known")) as record:
        trials = record.trials()
    assert len(trials) == 15
    for trial in trials:
        assert trial.weights is None
        measured = [one.name for one in trial.readings if isinstance(one, Measurement)]
        assert measured == ["macs", "num_params"]
        said = trial.reading(ESTIMATE)
        assert isinstance(said, Prediction)
        assert said.kind == ("published" if trial.is_anchor else "estimated")
    assert set(published.trials[f"{ESTIMATE}_kind"]) == {"published", "estimated"}


def test_published_networks_stand_at_their_published_values(published):
    rows = published.trials.dropna(subset="anchor").set_index("anchor")[ESTIMATE]
    assert rows.to_dict() == {"starnet_s1": 73.5, "starnet_s2": 74.8, "starnet_s4": 78.4}  # table 6


def test_the_front_is_ranked_by_the_lower_ends(published):
    rows = published.trials
    low, macs = rows[f"{ESTIMATE}_low"].to_numpy(), rows["macs"].to_numpy()
    better = (low[None] >= low[:, None]) & (macs[None] <= macs[:, None])
    better &= (low[None] > low[:, None]) | (macs[None] < macs[:, None])
    front = published.front()
    assert sorted(front["number"][front["on_front"]]) == sorted(rows["number"][~better.any(axis=1)])
    gains = front.set_index("number")[f"gain_{ESTIMATE}"].dropna()
    over = {"starnet_s1": 73.5, "starnet_s2": 74.8, "starnet_s4": 78.4}
    for number, gain in gains.items():
        row = front.set_index("number").loc[number]
        assert gain == pytest.approx(row[f"{ESTIMATE}_low"] - over[row["nearest_anchor"]])


def test_without_evidence_on_kernels_no_network_wins_by_its_kernels(published):
    front = published.front()
    members = front["architecture_text"][front["on_front"]].map(parse_architecture)
    assert not [one for one in members if 3 in one.kernel_size]
    # Smaller kernels are the cheaper twins: each would be on the front if only best guesses counted.
    posterior = fit_posterior(published_observations("starnet"))
    twins = [replace(one, kernel_size=(3,) * 4) for one in members]
    cheaper = np.array([[one.ranked for one in estimate_top1(posterior, some)] for some in (members.tolist(), twins)])
    assert (cheaper[1] < cheaper[0] - 1).all()


def test_a_front_says_what_of_it_lies_beyond_the_evidence(capsys, published):
    print_front(published.view)
    said = capsys.readouterr().out
    assert "published results of" in said
    assert "estimated from evidence, not measured" in said
    known = [one.architecture for one in published_observations("starnet")]
    s4 = presets()["starnet_s4"]
    assert nearest_known(s4, known) == {}
    assert nearest_known(replace(s4, depths=(3, 3, 11, 6)), known) == {}
    far = replace(s4, kernel_size=(7, 3, 7, 7), embed_dim=48)
    assert nearest_known(far, known) == {"kernel_size": (7, 7, 7, 7), "embed_dim": 32}


def test_demonets_are_chosen_by_a_profile_of_theirs_and_without_one_it_is_said(monkeypatch):
    of_few(monkeypatch)
    (spec,) = load_specs("demonet", trials=3)
    said = []
    with pytest.raises(StudyError, match=r"has no top1_percent beside it"):
        published_spec(
            [replace(spec, objectives=(*spec.objectives, Objective(name=ESTIMATE, direction="maximize")))],
            spec.name,
            said.append,
        )
    spec = published_spec([spec, spec], spec.name, said.append)
    assert said == ["Left out, for nothing is trained: fidelities."]
    assert "latency_ms" in spec.quantities
    _, planned = choose_published(spec, said.append)
    assert len(planned[spec.name]) == 6
    other = load_profile(find_file("e5-2680v4", "profiles"))
    with pytest.raises(StudyError, match=r"No network of the space can be chosen\. .* no term for layer norm"):
        choose_published(replace(spec, profiles={"latency_ms": other}), said.append)


def test_a_study_whose_constraints_nothing_keeps_says_by_how_much_the_nearest_misses(starsearch, tmp_path, monkeypatch):
    of_few(monkeypatch)
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(SMALL))
    code, out, err = starsearch(
        "run", tmp_path / "few.yaml", "--accuracy", "published", "--trials", 2, "--out", tmp_path,
        "--set", "constraints.macs.max=1e6",
    )  # fmt: skip
    assert (code, "No network keeps the study's constraints: 5 complete" in err) == (2, True)
    least = min(pd.read_csv(tmp_path / "few-published" / "trials.csv")["macs"])
    assert f"MACs {least / 1e6:.4g} M where at most 1 M is wanted" in out
    assert least < 3e8  # the smallest published one has 422 M
    assert "on the front lie" not in out


def test_signals_are_judged_by_published_accuracies_not_by_estimates(published):
    truth, (found,) = audit_signals(published.source, signals=["num_params"])
    assert "of 3 networks" in truth
    assert found.ranking.candidates == 3


def judge(candidate, *, seed, weights, part=None, way=1):
    """Report an accuracy that grows with the network, as if it had been trained."""
    yield from ()
    macs = starsearch.count_macs(candidate.architecture)
    top1 = Measurement(name="top1_percent", value=60 + way * macs / 1e8, spread=1.0)
    return top1, Measurement(name="macs", value=macs)


def test_trainings_are_evidence_and_their_networks_are_shown_by_the_estimate_too(tmp_path, capsys):
    study = starsearch.run(SMALL, name="trained", trials=3, out=tmp_path, evaluator=judge)
    assert study.view.estimated is None
    place = place_of(study.source)
    keep_estimates(place, open_view(place))
    view = load_study(study.source).view
    assert view.trials["top1_percent"].equals(study.trials["top1_percent"])
    assert ESTIMATE not in view.trials
    shown = view.estimated
    assert [one.name for one in shown.objectives] == [ESTIMATE, "macs"]
    anchors = shown.trials.dropna(subset="anchor").set_index("anchor")
    assert anchors[ESTIMATE].to_dict() == {"starnet_s1": 73.5, "starnet_s2": 74.8, "starnet_s4": 78.4}
    print_front(view)
    said = capsys.readouterr().out
    assert "digits/proxy" in said
    published, own = view.evidence
    assert (published["task"], published["observations"]) == ("imagenet", len(published_observations("starnet")))
    assert (own["task"], own["observations"]) == ("digits/proxy", 6)
    assert own["meaning"].endswith("ranks 3 published networks with τ 1.00")
    written = {path.name: path for path in write_study_report(study.source)}
    assert written["estimated.png"].stat().st_size > 10_000
    assert "In estimated ImageNet top-1" in written["report.html"].read_text(encoding="utf-8")


def test_trainings_that_do_not_rank_the_published_networks_move_no_estimate(tmp_path):
    study = starsearch.run(SMALL, name="reversed", trials=3, out=tmp_path, evaluator=partial(judge, way=-1))
    place = place_of(study.source)
    keep_estimates(place, open_view(place))
    view = load_study(study.source).view
    own = view.evidence[1]
    assert (own["weight"], own["meaning"].partition(":")[0]) == (0, "not used")
    assert own["meaning"].endswith("ranks 3 published networks with τ −1.00")
    searched = view.estimated.trials.query("anchor.isna()")
    networks = [parse_architecture(text) for text in searched["architecture_text"]]
    alone = fit_posterior(published_observations("starnet")).estimate(networks)
    assert searched[ESTIMATE].tolist() == pytest.approx([one.mean for one in alone])


def test_an_unknown_accuracy_and_a_study_as_its_own_evidence_are_refused(tmp_path):
    with pytest.raises(SpecError, match="'publishd'"):
        starsearch.run(SMALL, accuracy="publishd", out=tmp_path)
    with pytest.raises(SpecError, match="leave `accuracy` out"):
        starsearch.run(SMALL, accuracy="published", out=tmp_path, evaluator=judge)
    own = tmp_path / "own"
    (study,) = load_specs({**SMALL, "search": {"sampler": "auto"}}, name="own", trials=1)
    starsearch.run(study, out=tmp_path, evaluator=judge)
    with pytest.raises(StudyError, match="own results"):
        starsearch.run(study, out=tmp_path, evaluator=judge, earlier=str(own))


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({**SMALL, "objectives": {"top5_percent": "maximize"}}, "has no top5_percent"),
        ({**SMALL, "objectives": {"macs": "minimize", "num_params": "minimize"}}, "has no top1_percent among"),
        (SMALL, "takes no data"),
    ],
)
def test_what_only_a_training_tells_is_refused(tmp_path, study, said):
    data = "digits" if "data" in said else None
    with pytest.raises(StudyError, match=said):
        starsearch.run(study, accuracy="published", name="no", out=tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()

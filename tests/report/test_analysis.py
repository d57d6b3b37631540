from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from starsearch.families.family import Architecture, count_macs
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.predict import predict_latency
from starsearch.objective import IMAGENET_TOP1
from starsearch.report.analysis import hypervolume_history, what_matters
from starsearch.report.figures import front_figure
from starsearch.report.page import networks, render_page
from starsearch.report.plot import shipped_note
from starsearch.study.space_file import parse_space
from starsearch.yaml_file import parse_yaml
from tests.profiles import make_profile
from tests.report.frames import ACCURACY, BOTH, LATENCY, frame, realistic_trials, trial, view


def area(points, reference):
    """The area that points (better to the upper left) dominate up to `reference`, in steps from left to right."""
    total, height = 0.0, reference[1]
    for x, y in sorted(points):
        if x < reference[0] and y > height:
            total += (reference[0] - x) * (y - height)
            height = y
    return total


def test_the_hypervolume_after_each_trial_is_the_area_below_the_steps():
    study = view(realistic_trials())
    history = hypervolume_history(study)
    known = study.hypervolume["reference"]
    kept = study.trials[study.trials["feasible"].eq(True)]
    for number, volume in zip(history["number"], history["volume"], strict=True):
        rows = kept[kept["number"] <= number]
        expected = area(
            zip(rows["latency_ms"], rows["top1_percent"], strict=True), (known["latency_ms"], known["top1_percent"])
        )
        assert volume == pytest.approx(expected)
    assert history["hours"].iloc[-1] == pytest.approx(340 / 3600)


def test_what_decides_the_accuracy_matters_most_and_too_few_trials_say_nothing():
    trials = realistic_trials(60)
    trials["top1_percent"] = 50.0 + trials["params_depths.2"] + 0.01 * trials["params_embed_dim"]
    how, found = what_matters(view(trials))["top1_percent"]
    assert "PED-ANOVA" in how
    assert list(found)[-1] == "depths.2"
    assert what_matters(view(realistic_trials(4))) == {}


def test_of_a_predicted_latency_what_matters_is_what_changing_it_alone_changes():
    trials = realistic_trials()
    params = {
        **{f"params_depths.{stage}": 1 + (stage == 2) for stage in range(4)},
        **{f"params_ops.{stage}": "star" for stage in range(4)},
        "params_embed_dim": 16,
        "params_activation": "one",
        "params_mlp_ratio": 2,
        "params_kernel_size": 3,
    }
    study = view(trials.assign(**params))
    study = replace(study, spec=replace(study.spec, profiles={"latency_ms": make_profile("phone")}))
    how, found = what_matters(study)["latency_ms"]
    assert "phone" in how
    assert set(found) == {name.removeprefix("params_") for name in params}
    # The widest networks have three times the channels of the narrowest, nine times the multiply-adds.
    assert list(found)[-1] == "embed_dim"


def test_a_searched_resolution_is_each_networks_own_in_layer_costs_and_in_what_matters():
    searched = parse_space(
        parse_yaml("dimensions: {embed_dim: [16, 24], resolution: [112, 224]}", Path("searched.yaml"))
    )
    trials = frame([trial(0, width=16), trial(0, width=16) | {"number": 1}]).assign(
        architecture=["x@112", "x"], params_embed_dim=16, params_resolution=[112, 224]
    )
    study = view(trials)
    study = replace(study, spec=replace(study.spec, space=searched))
    millions = [sum(sum(stage[5].values()) for stage in network) for network in networks(study)["networks"]]
    network = parse_architecture(trials["architecture_text"][0])
    assert millions == pytest.approx([count_macs(network, resolution=one) / 1e6 for one in (112, 224)], rel=1e-3)
    study = replace(study, spec=replace(study.spec, profiles={"latency_ms": make_profile("phone")}))
    ms = [
        predict_latency(make_profile("phone"), Architecture.of(embed_dim=16), resolution=one).value
        for one in (112, 224)
    ]
    assert what_matters(study)["latency_ms"][1]["resolution"] == pytest.approx(ms[1] - ms[0])


def test_peers_are_drawn_beside_imagenet_accuracy_alone():
    peers = pd.DataFrame(
        {
            "name": ["<b>"],
            "top1_percent": [75.4],
            "top1_source": ["timm"],
            "latency_ms": [3.0],
            "latency_std_error": [0.1],
            "resolution": [224.0],
            "distilled": ["no"],
            "device": ["<i>"],
            "shipped": ["phone"],
        }
    )
    trials = realistic_trials()
    study = replace(view(trials), peers=peers)
    names = lambda study: [trace.name for trace in front_figure(study).data]  # noqa: E731
    assert "peers (timm)" not in names(study), "the accuracy is a proxy's"
    on_imagenet = replace(study, spec=replace(study.spec, data="imagenet-1k"))
    assert "peers (timm)" in names(on_imagenet)
    page = render_page(on_imagenet, title="peers")
    assert shipped_note(on_imagenet) in page
    assert "<td>phone, shipped with starsearch</td>" in page
    measured = render_page(replace(on_imagenet, peers=peers.assign(shipped="")), title="peers")
    assert "shipped with starsearch" not in measured
    estimated = view(
        trials.assign(**{IMAGENET_TOP1: trials["top1_percent"]}), (replace(ACCURACY, name=IMAGENET_TOP1), LATENCY)
    )
    assert "peers (timm)" in names(replace(estimated, peers=peers))


def test_two_networks_of_equal_latency_share_the_probability_of_the_better_accuracy():
    rows = [trial(n, top1_percent=70.0 + n, top1_percent_spread=1.0, latency_ms_spread=0.0) for n in range(2)]
    found = view(frame(rows), BOTH).on_front_probability
    # P(a normal of mean 1 and deviation √2 is positive) = Φ(0.707)
    assert found[1] == pytest.approx(0.760, abs=0.06)
    assert found.sum() == pytest.approx(1)
    certain = frame(rows).drop(columns=["top1_percent_spread", "latency_ms_spread"])
    assert view(certain, BOTH).on_front_probability.empty
    assert np.isfinite(found).all()

import json

import numpy as np
import pytest

from starsearch.errors import EvaluationError, SpecError
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.device import device_fingerprint
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.paired import PairLimits
from starsearch.latency.prediction import calibration as module
from starsearch.latency.prediction.calibration import (
    CalibrationLog,
    choose_networks,
    measure_networks,
    profile_layers,
    share_among_layers,
)
from starsearch.latency.prediction.fitting import choose_informative
from starsearch.latency.reference import Reference

from .devices import draw_networks
from .generators import run

TINY = [Architecture.of(embed_dim=8, depths=(1, 1, 1, 1), ops=op) for op in ("star", "sum")]
TEXTS = [format_architecture(network) for network in TINY]


@pytest.fixture(scope="module")
def spec():
    reference = Reference(ms=10.0, spread=0.1, runs=10, device=device_fingerprint())
    return MeasureSpec(resolution=64, limits=PairLimits(min_pairs=4, max_pairs=4), reference=reference)


@pytest.fixture
def log(tmp_path):
    return CalibrationLog(tmp_path / "p.measuring.jsonl", 64)


def test_every_network_is_measured_and_kept_with_the_shares_of_its_layers(spec, log):
    progress, calibration = run(measure_networks(TINY, spec=spec, log=log))
    assert [sample.architecture for sample in calibration.samples] == TEXTS
    for sample in calibration.samples:
        assert sample.ms > 0
        assert sample.pairs == 4
        assert sum(sample.shares.values()) == pytest.approx(1)
        assert sample.shares["pointwise"] > 0.05
    assert "star" in calibration.samples[0].shares
    assert {p.stage for p in progress} >= {"network 1/2", "network 2/2"}
    assert log.read().samples == calibration.samples
    # A smaller budget later throws nothing away, and a line that a killed process has not finished costs only itself.
    assert len(run(measure_networks(TINY[1:], spec=spec, log=log))[1].samples) == 2
    log.path.write_text(log.path.read_text()[:-40])
    assert [sample.architecture for sample in log.read().samples] == TEXTS[:1]
    log.add(calibration.samples[1])
    assert log.read().samples == calibration.samples


def test_an_interrupted_calibration_resumes_where_it_was(spec, log):
    steps = measure_networks(TINY, spec=spec, log=log)
    for progress in steps:
        if progress.stage == "network 2/2":
            steps.close()
    kept = log.read()
    assert [sample.architecture for sample in kept.samples] == TEXTS[:1]
    _, calibration = run(measure_networks(TINY, spec=spec, log=log))
    assert calibration.samples[0] == kept.samples[0]
    assert len(calibration.samples) == 2
    log.remove()
    assert log.read() is None


def test_a_log_of_another_machine_or_resolution_is_not_resumed(spec, log):
    log.begin(spec.reference)
    with pytest.raises(SpecError, match="an interrupted calibration at 64 px; now networks are measured at 224 px"):
        CalibrationLog(log.path, 224).read()
    log.path.write_text(log.path.read_text().replace(json.dumps(device_fingerprint().processor)[1:-1], "Another CPU"))
    with pytest.raises(EvaluationError, match="Another CPU"):
        run(measure_networks(TINY, spec=spec, log=log))


def test_a_file_that_is_no_log_is_not_overwritten_and_one_that_cannot_be_written_is_said(spec, log):
    log.path.write_text("my notes\n")
    with pytest.raises(SpecError, match="is not what an interrupted calibration leaves"):
        run(measure_networks(TINY, spec=spec, log=log))
    assert log.path.read_text() == "my notes\n"
    with pytest.raises(SpecError, match="cannot be kept in"):
        CalibrationLog(log.path / "p.jsonl", 64).begin(spec.reference)


def test_a_network_that_cannot_be_measured_is_left_out_and_named(spec, monkeypatch):
    def measure(network, given):
        monkeypatch.setattr(module, "measure", real)
        raise EvaluationError("It does not run.")
        yield

    real = module.measure
    monkeypatch.setattr(module, "measure", measure)
    _, calibration = run(measure_networks(TINY, spec=spec))
    assert [sample.architecture for sample in calibration.samples] == TEXTS[1:]
    assert any("It does not run." in note for note in calibration.notes)


def test_every_third_network_is_as_it_was_drawn_and_any_beginning_is_the_choice_of_a_smaller_budget():
    pool = draw_networks(200, seed=2)
    twelve, seven = (choose_networks(iter(pool), count, resolution=224, vector_width=8) for count in (12, 7))
    assert twelve[:7] == seven
    assert len(set(twelve)) == 12
    informative = choose_informative(pool, 12, resolution=224, vector_width=8)
    drawn = [network for network in twelve if network not in informative]
    assert len(drawn) >= 3
    assert drawn == [network for network in pool if network in drawn]
    assert set(choose_networks(iter(pool[:5]), 50, resolution=224, vector_width=8)) == set(pool[:5])


@pytest.mark.parametrize("activation", ["none", "one", "both", "post"])
@pytest.mark.parametrize("act_type", ["relu6", "gelu", "hard_swish"])
def test_onnxruntimes_profile_is_shared_among_the_layers_of_the_lowering(activation, act_type):
    network = Architecture.of(depths=(1, 1, 1, 1), activation=activation, act_type=act_type, ops=("star", "sum") * 2)
    layers = lower(network, resolution=96)
    rng = np.random.default_rng(0)
    shares = profile_layers(layers, build_onnx(layers, random_weights(layers, rng)), rng=rng)
    assert list(shares) == [layer.name for layer in layers]
    assert sum(shares.values()) == pytest.approx(1)
    convolutions = [shares[layer.name] for layer in layers if layer.op == "conv"]
    assert min(convolutions) > 0, "a fused convolution's time is its own, whatever its node is called"
    assert sum(convolutions) > 0.5


def test_layout_changes_belong_to_the_layer_that_needed_them():
    layers = lower(parse_architecture("starnet:depths=1-0-0-0,activation=post"), resolution=64)
    times = {
        "stages.0.1.f1_nchwc": 10.0,
        "ReorderOutput": 3.0,
        "stages.0.1.act": 5.0,
        "ReorderInput": 2.0,
        "stages.0.1.g_nchwc": 20.0,
    }
    shares = share_among_layers(layers, times)
    assert shares["stages.0.1.act"] == shares["stages.0.1.f1"] == pytest.approx(10 / 40)
    assert shares["stages.0.1.f2"] == 0
    with pytest.raises(EvaluationError, match="names none of the network's layers"):
        share_among_layers(layers, {"conv_1": 3.0})

import json

import numpy as np
import pytest

from starsearch.errors import EvaluationError, SpecError
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency import MeasureSpec, PairLimits, Reference, device_fingerprint
from starsearch.latency.calibration import CalibrationLog, choose_networks, measure_networks
from starsearch.latency.op_profile import profile_layers, share_among_layers
from starsearch.latency.selection import choose_informative

from .devices import draw_networks
from .generators import run

TINY = [Architecture.of(embed_dim=8, depths=(1, 1, 1, 1), ops=op) for op in ("star", "sum")]


@pytest.fixture(scope="module")
def spec():
    reference = Reference(ms=10.0, spread=0.1, runs=10, device=device_fingerprint())
    return MeasureSpec(resolution=64, limits=PairLimits(min_pairs=4, max_pairs=4), reference=reference)


def test_every_network_is_measured_and_kept_with_the_shares_of_its_layers(spec, tmp_path):
    log = CalibrationLog(tmp_path / "p.measuring.jsonl", resolution=64)
    progress, calibration = run(measure_networks(TINY, spec=spec, log=log))
    assert [sample.architecture for sample in calibration.samples] == [format_architecture(a) for a in TINY]
    for sample in calibration.samples:
        assert sample.ms > 0
        assert sample.pairs == 4
        assert sum(sample.shares.values()) == pytest.approx(1)
        assert sample.shares["pointwise"] > 0.05
    assert "star" in calibration.samples[0].shares
    assert {p.stage for p in progress} >= {"network 1/2", "network 2/2"}
    assert log.read().samples == calibration.samples


def test_an_interrupted_calibration_goes_on_where_it_was(spec, tmp_path):
    log = CalibrationLog(tmp_path / "p.measuring.jsonl", resolution=64)
    steps = measure_networks(TINY, spec=spec, log=log)
    for progress in steps:
        if progress.stage == "network 2/2":
            steps.close()
    kept = log.read()
    assert [sample.architecture for sample in kept.samples] == [format_architecture(TINY[0])]
    _, calibration = run(measure_networks(TINY, spec=spec, log=log))
    assert calibration.samples[0] == kept.samples[0]
    assert len(calibration.samples) == 2
    log.remove()
    assert log.read() is None


def test_a_log_of_another_machine_is_not_gone_on_with(spec, tmp_path):
    path = tmp_path / "p.measuring.jsonl"
    log = CalibrationLog(path, resolution=64)
    log.begin(spec.reference)
    path.write_text(path.read_text().replace(json.dumps(device_fingerprint().processor)[1:-1], "Another CPU"))
    with pytest.raises(EvaluationError, match="Another CPU"):
        run(measure_networks(TINY, spec=spec, log=log))


def test_a_file_that_is_no_log_is_not_overwritten(spec, tmp_path):
    path = tmp_path / "p.measuring.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(SpecError, match="is not what an interrupted calibration leaves"):
        run(measure_networks(TINY, spec=spec, log=CalibrationLog(path, resolution=64)))
    assert path.read_text() == "my notes\n"


def test_any_beginning_of_the_chosen_networks_is_the_choice_of_a_smaller_budget():
    pool = draw_networks(200, seed=2)
    twenty, seven = (choose_networks(iter(pool), count, resolution=224, vector_width=8) for count in (20, 7))
    assert twenty[:7] == seven
    assert len(set(twenty)) == 20


def test_every_third_network_is_as_it_was_drawn():
    pool = draw_networks(200, seed=2)
    chosen = choose_networks(iter(pool), 12, resolution=224, vector_width=8)
    informative = choose_informative(pool, 12, resolution=224, vector_width=8)
    drawn = [network for network in chosen if network not in informative]
    assert len(drawn) >= 3
    assert drawn == [network for network in pool if network in drawn]


def test_a_small_space_gives_all_it_has():
    pool = draw_networks(5, seed=2)
    assert set(choose_networks(iter(pool), 50, resolution=224, vector_width=8)) == set(pool)


def test_a_line_that_a_killed_process_has_not_finished_costs_only_itself(spec, tmp_path):
    log = CalibrationLog(tmp_path / "p.measuring.jsonl", resolution=64)
    run(measure_networks(TINY, spec=spec, log=log))
    path = tmp_path / "p.measuring.jsonl"
    path.write_text(path.read_text()[:-40])
    assert [sample.architecture for sample in log.read().samples] == [format_architecture(TINY[0])]


def test_a_log_of_another_resolution_is_not_gone_on_with(spec, tmp_path):
    path = tmp_path / "p.measuring.jsonl"
    CalibrationLog(path, resolution=64).begin(spec.reference)
    with pytest.raises(SpecError, match="an interrupted calibration at 64 px; now networks are measured at 224 px"):
        CalibrationLog(path, resolution=224).read()


def test_a_log_that_cannot_be_written_is_a_clear_error(spec, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be kept in"):
        CalibrationLog(tmp_path / "file" / "p.jsonl", resolution=64).begin(spec.reference)


def test_a_smaller_budget_later_throws_nothing_away(spec, tmp_path):
    log = CalibrationLog(tmp_path / "p.measuring.jsonl", resolution=64)
    run(measure_networks(TINY, spec=spec, log=log))
    _, calibration = run(measure_networks(TINY[1:], spec=spec, log=log))
    assert len(calibration.samples) == 2


def test_a_network_that_cannot_be_measured_is_left_out_and_named(spec, tmp_path, monkeypatch):
    from starsearch.latency import calibration as module

    def measure(network, given):
        monkeypatch.setattr(module, "measure", real)
        raise EvaluationError("It does not run.")
        yield

    real = module.measure
    monkeypatch.setattr(module, "measure", measure)
    _, calibration = run(measure_networks(TINY, spec=spec))
    assert [sample.architecture for sample in calibration.samples] == [format_architecture(TINY[1])]
    assert any("It does not run." in note for note in calibration.notes)


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
    assert shares["stages.0.1.act"] == pytest.approx(10 / 40)
    assert shares["stages.0.1.f1"] == pytest.approx(10 / 40)
    assert shares["stages.0.1.f2"] == 0


def test_a_profile_of_some_other_network_is_refused():
    with pytest.raises(EvaluationError, match="names none of the network's layers"):
        share_among_layers(lower(Architecture.of(), resolution=64), {"conv_1": 3.0})

import dataclasses
import sys
from typing import ClassVar

import numpy as np
import pytest

from starsearch import api
from starsearch.errors import EvaluationError
from starsearch.evaluators import placement
from starsearch.evaluators.latency import LatencyMeter, predict_latencies
from starsearch.export import random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import pad_channels
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency import MeasureSpec, Reference, device_fingerprint
from starsearch.latency.coreml_placement import CpuOperation, Placement
from starsearch.latency.device import vector_width
from starsearch.latency.predicting import predict_layers
from starsearch.measurement import Prediction
from tests.latency.devices import make_profile

TINY = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1")


def finish(steps):
    fractions = []
    while True:
        try:
            fractions.append(next(steps).fraction)
        except StopIteration as stop:
            return fractions, stop.value


@pytest.fixture(scope="module")
def meter():
    reference = Reference(ms=10.0, spread=0.1, runs=10, device=device_fingerprint())
    return LatencyMeter(name="latency_ms@here", reference=reference, resolution=64, num_classes=10, seed=0)


def test_a_measurement_stands_under_the_name_it_was_asked_for(meter):
    _, found = finish(meter(TINY))
    assert found.name == "latency_ms@here"
    assert found.value > 0
    assert found.device == device_fingerprint().text


class SizedTimer:
    """Takes as many milliseconds a run as the file has bytes, or as one that is smaller has more."""

    computes_in_caller = False
    timed: ClassVar = []
    larger_is_faster = True

    def __init__(self, model, **options):
        self.timed.append(model)
        self._ms = 1e9 / len(model) if self.larger_is_faster else len(model)

    def __call__(self):
        return self._ms


@pytest.mark.parametrize("larger_is_faster", [True, False])
def test_study_and_command_time_the_same_network_padded_where_it_is_faster(meter, monkeypatch, larger_is_faster):
    monkeypatch.setattr(SizedTimer, "timed", [])
    monkeypatch.setattr(SizedTimer, "larger_is_faster", larger_is_faster)
    for module in ("padded", "backends.onnxruntime_cpu"):
        monkeypatch.setattr(f"starsearch.latency.{module}.OnnxRuntimeTimer", SizedTimer)
    monkeypatch.setattr(sys.modules["starsearch.latency.measure"], "reference_timer", lambda backend: lambda: 1.0)
    odd = Architecture.of(embed_dim=30, depths=(1, 1, 1, 1))
    fractions, by_study = finish(dataclasses.replace(meter, num_classes=1000)(odd))
    assert fractions == sorted(fractions)  # choosing and measuring are one stretch of the bar
    last, SizedTimer.timed = SizedTimer.timed[-1], []
    spec = MeasureSpec(reference=meter.reference)
    by_command = api.measure_architecture(format_architecture(odd), resolution=64, spec=spec)
    assert SizedTimer.timed[-1] == last
    assert by_command["latency_ms"] == by_study.value
    layers = lower(odd, resolution=64)
    padded = pad_channels(layers, multiple=vector_width())
    assert len(last) == pytest.approx(4 * count_weights(padded if larger_is_faster else layers), rel=0.1)
    assert by_command["notes"][0].startswith("Padded" if larger_is_faster else "Not padded")


def count_weights(layers):
    return sum(array.size for array in random_weights(layers, np.random.default_rng(0)).values())


@pytest.fixture(scope="module")
def eager(meter):
    """What a meter finds by PyTorch's own kernels, and the modules it timed for that."""
    from starsearch.latency.backends import BackendOptions, open_backend
    from starsearch.latency.backends.torch_eager import TorchTimer

    timed = []

    class Noting(TorchTimer):
        def __init__(self, module, **options):
            timed.append(module)
            super().__init__(module, **options)

    device = open_backend("torch-eager", BackendOptions()).describe_device()
    reference = dataclasses.replace(meter.reference, device=device)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("starsearch.latency.backends.torch_eager.TorchTimer", Noting)
        _, found = finish(dataclasses.replace(meter, backend="torch-eager", reference=reference)(TINY))
    return found, device, timed


def test_other_backends_measure_too(eager):
    found, device, _ = eager
    assert found.device == device.text
    assert "torch" in found.device


def test_other_backends_are_given_the_network_with_the_datas_own_classes(eager):
    _, _, timed = eager
    assert (TINY, 10) in [(module.architecture, module.num_classes) for module in timed]
    assert not any(module.training for module in timed)


ODD = Architecture.of(embed_dim=30, depths=(1, 1, 1, 1))


def predict_odd(profile):
    (found,) = predict_latencies(ODD, {"latency_ms": profile}, resolution=64, num_classes=1000)
    return found.value


def predict_padded(profile, multiple):
    return predict_layers(profile, pad_channels(lower(ODD, resolution=64), multiple=multiple))


def test_what_leaves_the_blocked_layout_is_predicted_padded_by_a_profile_that_knows_only_that():
    profile = make_profile(20)  # of widths that are multiples of four
    assert predict_odd(profile) == pytest.approx(predict_padded(profile, profile.vector_width))
    # Core ML and GPUs are given networks as they are, so that what this profile does not know it refuses.
    with pytest.raises(EvaluationError, match="no multiple of 4"):
        predict_odd(dataclasses.replace(profile, backend="coreml"))


@pytest.mark.parametrize(("slowdown", "is_padded"), [(1.0, False), (10.0, True)])
def test_what_leaves_the_blocked_layout_is_predicted_padded_where_that_is_faster(slowdown, is_padded):
    profile = make_profile(20)
    blocked = {name: ms for name, ms in profile.coefficients_ms.items() if name.startswith("pointwise.")}
    unblocked = {name.replace("pointwise", "unblocked1"): slowdown * ms for name, ms in blocked.items()}
    dense = {name.replace("unblocked1", "unblocked3"): ms for name, ms in unblocked.items()}
    known = {**profile.coefficients_ms, **unblocked, **dense}
    profile = dataclasses.replace(profile, coefficients_ms=known)
    plain = predict_layers(profile, lower(ODD, resolution=64))
    padded = predict_padded(profile, profile.vector_width)
    assert (padded < 0.95 * plain) is is_padded
    assert predict_odd(profile) == pytest.approx(padded if is_padded else plain)


def test_predictions_stand_under_their_names_with_their_intervals():
    profile = make_profile(20)
    (found,) = predict_latencies(Architecture.of(), {"latency_ms@imagined": profile}, resolution=224, num_classes=1000)
    assert isinstance(found, Prediction)
    assert found.low < found.value < found.high
    assert sum(found.parts.values()) == pytest.approx(found.value)
    assert found.device == profile.device.text


def test_what_core_ml_would_run_on_the_cpu_is_a_share_in_percent_forced_or_not(monkeypatch):
    pytest.importorskip("coremltools")
    forced = CpuOperation(name="star", type="mul", cost_share=0.25, is_forced=True)
    chosen = CpuOperation(name="head", type="linear", cost_share=0.1, is_forced=False)
    plan = Placement(
        cpu_share=0.35, gpu_share=0.0, neural_engine_share=0.65, cpu_operations=(forced, chosen), operations=9
    )
    seen = []
    monkeypatch.setattr(
        "starsearch.latency.coreml.place_operations", lambda package: seen.append(package.suffix) or plan
    )
    found = placement.measure_coreml_placement(TINY, resolution=64, num_classes=10)
    assert (found.name, found.value) == ("coreml_cpu_percent", 35.0)
    assert seen == [".mlpackage"]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can tell")
def test_elsewhere_than_on_a_mac_placement_says_what_it_needs():
    pytest.importorskip("coremltools")
    with pytest.raises(EvaluationError, match="Mac"):
        placement.measure_coreml_placement(TINY, resolution=64, num_classes=10)

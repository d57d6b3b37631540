import dataclasses
import sys
from typing import ClassVar

import numpy as np
import pytest

import starsearch
from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError
from starsearch.evaluators.evaluator import TrainingPart
from starsearch.evaluators.latency import (
    LatencyEvaluator,
    measure_coreml_placement,
    measure_latency,
    predict_latencies,
)
from starsearch.export.weights import random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import pad_channels
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.backends.backend import Placement
from starsearch.latency.device import device_fingerprint, vector_width
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.reference import Reference
from starsearch.measurement import Prediction
from starsearch.progress import follow
from starsearch.recipe import Recipe
from tests.latency.devices import make_profile

TINY = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1")


@pytest.fixture(scope="module")
def options():
    reference = Reference(ms=10.0, spread=0.1, runs=10, device=device_fingerprint())
    return {"reference": reference, "resolution": 64, "num_classes": 10, "seed": 0}


def test_latencies_stand_under_their_names_and_those_that_are_known_are_not_taken_again(options):
    reference, _, classes, _ = options.values()
    evaluator = LatencyEvaluator(
        reference=reference, timed=("latency_ms", "latency_ms@here"), resolution=64, num_classes=classes
    )
    candidate = Candidate(architecture=TINY, recipe=Recipe())
    found = follow(evaluator(candidate, seed=0, weights=None))
    assert [one.name for one in found] == ["latency_ms", "latency_ms@here"]
    assert found[0].value == found[1].value > 0
    assert found[0].device == device_fingerprint().text
    assert follow(evaluator(candidate, seed=0, weights=None, part=TrainingPart(known=found))) == found


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
def test_study_and_command_time_the_same_network_padded_where_it_is_faster(options, monkeypatch, larger_is_faster):
    monkeypatch.setattr(SizedTimer, "timed", [])
    monkeypatch.setattr(SizedTimer, "larger_is_faster", larger_is_faster)
    for module in ("padded", "backends.onnxruntime"):
        monkeypatch.setattr(f"starsearch.latency.{module}.OnnxRuntimeTimer", SizedTimer)
    monkeypatch.setattr("starsearch.latency.measure.reference_timer", lambda backend: lambda: 1.0)
    odd = Architecture.of(embed_dim=25, depths=(1, 1, 1, 1))  # padded also to multiples of 8 it is larger by percents
    progress = []
    by_study = follow(measure_latency(odd, **{**options, "num_classes": 1000}), progress.append)
    fractions = [one.fraction for one in progress]
    assert fractions == sorted(fractions)  # choosing and measuring share the bar
    last, SizedTimer.timed = SizedTimer.timed[-1], []
    spec = MeasureSpec(reference=options["reference"])
    by_command = starsearch.measure_latency(format_architecture(odd), resolution=64, spec=spec)
    assert SizedTimer.timed[-1] == last
    assert by_command["latency_ms"] == by_study.value
    layers = lower(odd, resolution=64)
    padded = pad_channels(layers, multiple=vector_width())
    assert len(last) == pytest.approx(4 * count_weights(padded if larger_is_faster else layers), rel=0.1)
    assert by_command["notes"][0].startswith("Padded" if larger_is_faster else "Not padded")


def count_weights(layers):
    return sum(array.size for array in random_weights(layers, np.random.default_rng(0)).values())


def test_other_backends_measure_too_and_are_given_the_network_with_the_datas_own_classes(options, monkeypatch):
    from starsearch.latency.backends.backend import BackendOptions
    from starsearch.latency.backends.torch_eager import TorchEager

    timed, make_timer = [], TorchEager.make_timer

    def note(self, network, **options):
        timed.append(network)
        return make_timer(self, network, **options)

    monkeypatch.setattr(TorchEager, "make_timer", note)
    device = TorchEager(BackendOptions()).describe_device()
    reference = dataclasses.replace(options["reference"], device=device)
    found = follow(measure_latency(TINY, **{**options, "reference": reference}, backend="torch-eager"))
    assert found.device == device.text
    assert "torch" in found.device
    assert (timed[0].architecture, timed[0].num_classes) == (TINY, 10)


def test_predictions_stand_under_their_names_with_their_intervals():
    profile = make_profile(20)
    (found,) = predict_latencies(Architecture.of(), {"latency_ms@imagined": profile}, resolution=224, num_classes=1000)
    assert isinstance(found, Prediction)
    assert found.low < found.value < found.high
    assert sum(found.parts.values()) == pytest.approx(found.value)
    assert found.device == profile.device.text


def test_what_core_ml_would_run_on_the_cpu_is_a_share_in_percent(monkeypatch):
    pytest.importorskip("coremltools")
    seen = []

    def describe_placement(self, network, **options):
        seen.append(network.num_classes)
        return Placement(cpu_share=0.35, gpu_share=0.0, neural_engine_share=0.65, cpu_operations=(), operations=9)

    monkeypatch.setattr("starsearch.latency.backends.coreml.Mac.describe_placement", describe_placement)
    found = measure_coreml_placement(TINY, resolution=64, num_classes=10)
    assert (found.name, found.value) == ("coreml_cpu_percent", 35.0)
    assert seen == [10]


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can tell")
def test_elsewhere_than_on_a_mac_placement_says_what_it_needs():
    pytest.importorskip("coremltools")
    with pytest.raises(EvaluationError, match="Mac"):
        measure_coreml_placement(TINY, resolution=64, num_classes=10)

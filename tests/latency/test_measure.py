import dataclasses

import numpy as np
import pytest

from starsearch.errors import BackendError, EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture
from starsearch.latency.backends.backend import BackendOptions
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.backends.onnxruntime import Cpu
from starsearch.latency.backends.torch_eager import TorchEager
from starsearch.latency.device import device_fingerprint
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import PairLimits
from starsearch.latency.reference import calibrate_reference

from .generators import run
from .networks import convolutions

LIMITS = PairLimits(min_pairs=10, max_pairs=10)
TINY = "starnet:embed_dim=8,depths=1-1-1-1"


@pytest.fixture(scope="module", autouse=True)
def _short_calibration():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Cpu, "calibration_runs", 10)
        patched.setattr(TorchEager, "calibration_runs", 10)
        yield


@pytest.fixture(scope="module")
def reference(_short_calibration):
    return calibrate_reference()


def as_evaluators_do(model, reference):
    progress, measured = run(measure(model, MeasureSpec(reference=reference, limits=LIMITS)))
    return progress, measured.as_measurement("latency_ms")


def test_the_reference_network_measures_as_its_own_calibrated_time(reference):
    network = as_onnx(Architecture.of(), resolution=224, rng=np.random.default_rng(0))
    progress, measurement = as_evaluators_do(network, reference)
    assert measurement.name == "latency_ms"
    assert measurement.value == pytest.approx(reference.ms, rel=0.15)
    assert 0 < measurement.spread < 0.2 * measurement.value
    assert measurement.runs == 10
    assert measurement.device == device_fingerprint().text
    assert [p.fraction for p in progress] == [0.5, 1.0]


def test_all_measurements_are_on_the_scale_of_the_reference_they_are_given(reference):
    network = convolutions(8)
    _, usual = as_evaluators_do(network, reference)
    _, tenfold = as_evaluators_do(network, dataclasses.replace(reference, ms=10 * reference.ms))
    assert tenfold.value == pytest.approx(10 * usual.value, rel=0.25)


def test_a_scale_from_another_device_is_refused_with_the_difference(reference):
    elsewhere = dataclasses.replace(reference.device, runtime="onnxruntime 1.20.0")
    foreign = dataclasses.replace(reference, device=elsewhere)
    with pytest.raises(EvaluationError, match=r"runtime: 'onnxruntime 1\.20\.0' against"):
        run(measure(convolutions(1), MeasureSpec(reference=foreign)))
    with pytest.raises(EvaluationError, match="threads: 1 against 2"):
        run(measure(convolutions(1), MeasureSpec(reference=reference, options=BackendOptions(threads=2))))


@pytest.mark.parametrize(("backend", "threads"), [("onnxruntime-cpu", 1), ("onnxruntime-cpu", 2), ("torch-eager", 1)])
def test_a_small_network_takes_less_than_the_reference_on_every_backend(backend, threads):
    spec = MeasureSpec(backend=backend, options=BackendOptions(threads=threads), resolution=64, limits=LIMITS)
    spec = dataclasses.replace(spec, reference=calibrate_reference(spec.open_backend()))
    _, measured = run(measure(parse_architecture(TINY), spec))
    assert 0 < measured.timing.ratio < 0.6
    assert measured.ms == pytest.approx(measured.timing.ratio * spec.reference.ms)
    assert measured.timing.interval.low <= measured.timing.ratio <= measured.timing.interval.high
    assert measured.timing.pairs == 10
    assert measured.device.threads == threads


def test_without_a_scale_it_is_calibrated_and_said():
    progress, measured = run(measure(convolutions(1), MeasureSpec(limits=LIMITS)))
    assert [p.stage for p in progress] == ["calibration", "latency", "latency"]
    assert measured.reference.runs == 10
    assert measured.ms == pytest.approx(measured.timing.ratio * measured.reference.ms)


def test_an_unknown_backend_or_no_thread_is_refused_before_anything_runs():
    with pytest.raises(BackendError, match="Did you mean 'onnxruntime-cpu'"):
        next(measure(Architecture.of(), MeasureSpec(backend="onnxruntime-cpuu")))
    with pytest.raises(BackendError, match="at least one thread; got 0"):
        BackendOptions(threads=0)

import dataclasses

import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.latency import PairLimits, calibrate_reference, device_fingerprint, measure_latency
from starsearch.latency.reference import reference_model

from .networks import convolutions

LIMITS = PairLimits(min_pairs=20, max_pairs=20)


@pytest.fixture(scope="module")
def reference():
    return calibrate_reference(runs=20)


def measure(model, reference):
    generator = measure_latency(model, reference=reference, rng=np.random.default_rng(0), limits=LIMITS)
    yielded = []
    while True:
        try:
            yielded.append(next(generator))
        except StopIteration as end:
            return yielded, end.value


def test_the_reference_network_measures_as_its_own_calibrated_time(reference):
    progress, measurement = measure(reference_model(), reference)
    assert measurement.name == "latency_ms"
    assert measurement.value == pytest.approx(reference.ms, rel=0.15)
    assert 0 < measurement.spread < 0.2 * measurement.value
    assert measurement.runs == 20
    assert measurement.device == device_fingerprint().text
    assert [p.fraction for p in progress] == [0.5, 1.0]


def test_all_measurements_are_on_the_scale_of_the_reference_they_are_given(reference):
    network = convolutions(8)
    _, usual = measure(network, reference)
    _, tenfold = measure(network, dataclasses.replace(reference, ms=10 * reference.ms))
    assert tenfold.value == pytest.approx(10 * usual.value, rel=0.25)


def test_a_reference_says_what_it_was_calibrated_on(reference):
    assert reference.device == device_fingerprint()
    assert reference.runs == 20
    assert 0 < reference.spread < reference.ms


def test_a_scale_from_another_device_is_refused_with_the_difference(reference):
    elsewhere = dataclasses.replace(reference.device, runtime="onnxruntime 1.20.0")
    with pytest.raises(EvaluationError, match=r"runtime: 'onnxruntime 1\.20\.0' against"):
        measure(convolutions(1), dataclasses.replace(reference, device=elsewhere))


def test_the_reference_network_is_always_the_same():
    first = reference_model()
    reference_model.cache_clear()
    assert reference_model() == first

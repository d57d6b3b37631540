import time

import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.latency.onnxruntime import OnnxRuntimeTimer, build_session, clock_ns
from starsearch.latency.paired import PairLimits, measure_paired

from .networks import convolutions, failing_when_run, unknown_operator, whole_numbers

LIMITS = PairLimits(min_pairs=40, max_pairs=100, half_width=0.02)


def timer(model, threads=1):
    return OnnxRuntimeTimer(model, rng=np.random.default_rng(0), threads=threads)


def ratio(candidate, reference, alone):
    generator = measure_paired(
        timer(candidate), timer(reference), rng=np.random.default_rng(0), limits=LIMITS, alone=alone
    )
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value.ratio


def test_a_network_takes_as_long_as_itself_and_half_as_long_as_one_of_double_work(alone):
    once, twice = convolutions(4), convolutions(8)
    assert ratio(once, once, alone) == pytest.approx(1, rel=0.15)
    assert ratio(twice, once, alone) == pytest.approx(2, rel=0.25)


def test_one_thread_is_timed_by_its_own_cpu_time_and_more_by_the_wall():
    assert clock_ns(1) is time.thread_time_ns
    assert clock_ns(2) is time.perf_counter_ns
    assert timer(convolutions(2), threads=2)() > 0


def test_with_one_thread_all_computing_is_done_by_the_calling_thread():
    network = timer(convolutions(8))
    network()
    process, thread = time.process_time(), time.thread_time()
    for _ in range(10):
        network()
    assert time.thread_time() - thread == pytest.approx(time.process_time() - process, rel=0.2)


def test_a_clock_that_ticks_too_coarsely_is_not_used(monkeypatch):
    class Coarse:
        resolution = 1 / 64

    monkeypatch.setattr(time, "get_clock_info", lambda name: Coarse)
    assert clock_ns(1) is time.perf_counter_ns


def test_the_input_is_normal_values_without_subnormal_ones():
    (values,) = timer(convolutions(1))._inputs.values()
    assert values.std() == pytest.approx(1, abs=0.05)
    assert np.abs(values[values != 0]).min() > np.finfo(np.float32).tiny


@pytest.mark.parametrize("model", [b"not onnx", b"", unknown_operator()], ids=["garbage", "empty", "unknown operator"])
def test_a_model_that_onnxruntime_refuses_fails_the_candidate_in_one_line(model, capfd):
    with pytest.raises(EvaluationError, match=r"ONNX Runtime [\d.]+ takes no such network: .+") as caught:
        build_session(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (convolutions(1, batch="N"), r"'x0' is tensor\(float\) of shape \['N', 48, 28, 28\]"),
        (whole_numbers(), r"'x0' is tensor\(int64\) of shape \[1, 4\]"),
    ],
)
def test_an_input_that_is_not_float_of_fixed_shape_is_refused(model, says):
    with pytest.raises(EvaluationError, match=says):
        timer(model)


def test_a_network_that_fails_when_run_fails_the_candidate_in_one_line(capfd):
    network = timer(failing_when_run())
    with pytest.raises(EvaluationError, match="could not run the network") as caught:
        network()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""

import time
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from starsearch.errors import BackendError, EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.backends.backend import BackendOptions
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.backends.onnxruntime import Cuda, OnnxRuntimeTimer, TensorRt, build_session, clock_ns
from starsearch.latency.paired import PairLimits, measure_paired
from starsearch.progress import follow

from .networks import convolutions, failing_when_run, unknown_operator, whole_numbers

LIMITS = PairLimits(min_pairs=40, max_pairs=100, half_width=0.02)
GPUS = [Cuda(BackendOptions()), TensorRt(BackendOptions())]
without_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has the CUDA provider"
)


def timer(model, threads=1, **options):
    return OnnxRuntimeTimer(model, rng=np.random.default_rng(0), threads=threads, **options)


def ratio(candidate, reference):
    steps = measure_paired(timer(candidate), timer(reference), rng=np.random.default_rng(0), limits=LIMITS)
    return follow(steps).ratio


def test_a_network_takes_as_long_as_itself_and_half_as_long_as_one_of_double_work():
    once, twice = convolutions(4), convolutions(8)
    assert ratio(once, once) == pytest.approx(1, rel=0.15)
    assert ratio(twice, once) == pytest.approx(2, rel=0.25)


def test_one_thread_is_timed_by_its_own_cpu_time_and_more_by_the_wall(monkeypatch):
    assert clock_ns(1) is time.thread_time_ns
    assert clock_ns(2) is time.perf_counter_ns
    assert timer(convolutions(2), threads=2)() > 0
    monkeypatch.setattr(time, "get_clock_info", lambda name: SimpleNamespace(resolution=1 / 64))  # as Windows has it
    assert clock_ns(1) is time.perf_counter_ns


def test_with_one_thread_all_computing_is_done_by_the_calling_thread():
    network = timer(convolutions(8))
    assert network.computes_in_caller
    network()
    process, thread = time.process_time(), time.thread_time()
    for _ in range(10):
        network()
    assert time.thread_time() - thread == pytest.approx(time.process_time() - process, rel=0.2)


def test_a_session_bound_to_a_devices_memory_takes_time_and_computes_elsewhere():
    tiny = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1")
    bound = timer(as_onnx(tiny, resolution=32, rng=np.random.default_rng(0)), memory="cpu")
    assert bound() > 0
    assert not bound.computes_in_caller


@pytest.mark.parametrize("model", [b"not onnx", b"", unknown_operator()], ids=["garbage", "empty", "unknown operator"])
def test_a_model_that_onnxruntime_refuses_fails_the_candidate_in_one_line(model, capfd):
    with pytest.raises(EvaluationError, match=r"ONNX Runtime [\d.]+ takes no such network: .+") as caught:
        build_session(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("memory", [None, "cpu"])
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (convolutions(1, batch="N"), r"'x0' is tensor\(float\) of shape \['N', 48, 28, 28\]"),
        (whole_numbers(), r"'x0' is tensor\(int64\) of shape \[1, 4\]"),
    ],
)
def test_an_input_that_is_not_float_of_fixed_shape_is_refused(model, says, memory):
    with pytest.raises(EvaluationError, match=says):
        timer(model, memory=memory)


def test_a_network_that_fails_when_run_fails_the_candidate_in_one_line(capfd):
    network = timer(failing_when_run())
    with pytest.raises(EvaluationError, match="could not run the network") as caught:
        network()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@without_gpu
@pytest.mark.parametrize("backend", GPUS)
def test_without_the_provider_the_gpu_build_is_asked_for(backend):
    missing = backend.missing()
    assert "onnxruntime-gpu" in missing
    assert "CPUExecutionProvider" in missing
    assert ("pip install tensorrt" in missing) == isinstance(backend, TensorRt)


@without_gpu
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")  # that ONNX Runtime goes on without is the point
@pytest.mark.parametrize("backend", GPUS)
def test_a_network_that_would_silently_run_on_the_processor_is_refused(backend):
    with pytest.raises(BackendError, match=r"would run on the processor.*onnxruntime-gpu"):
        backend.make_timer(parse_architecture("starnet_s1"), resolution=32, rng=np.random.default_rng(0))


@pytest.mark.parametrize(("backend", "runtime"), [(GPUS[0], " CUDA"), (GPUS[1], " TensorRT, CUDA")])
def test_a_gpus_device_says_its_runtime_and_leaves_out_what_says_nothing_there(backend, runtime):
    device = backend.describe_device()
    assert (device.threads, device.cores, device.governor) == (None, None, None)
    assert runtime in device.text
    assert "thread" not in device.text

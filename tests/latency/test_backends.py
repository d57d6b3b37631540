import gc
import sys
import tempfile

import numpy as np
import onnxruntime
import pytest
import torch

from starsearch.cli import latency as command
from starsearch.errors import BackendError, EvaluationError
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.latency import MeasureSpec
from starsearch.latency.backends import (
    BACKENDS,
    COMPUTE_UNITS,
    BackendOptions,
    coreml,
    missing_by_backend,
    open_backend,
    reopen_backend,
)
from starsearch.latency.backends.coreml import CoreMl, compute_units_of
from starsearch.latency.backends.networks import as_layers, as_module, as_onnx
from starsearch.latency.backends.onnxruntime_gpu import (
    IoBindingTimer,
    OnnxRuntimeGpu,
    accelerator_text,
    ask_driver_for_name,
    gpu_name,
)
from starsearch.latency.backends.torch_eager import TorchEager, TorchTimer
from starsearch.latency.onnxruntime import build_session

from .networks import convolutions, whole_numbers

TINY = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1")
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


class Pooling(torch.nn.Module):
    """A network that is no StarNet."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, image):
        return self.norm(self.conv(image)).mean((2, 3))


def rng():
    return np.random.default_rng(0)


def run_onnx(model, image):
    session = build_session(model)
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def draw_image(size, channels=3):
    return np.random.default_rng(1).standard_normal((1, channels, size, size), dtype=np.float32)


def test_the_command_line_offers_every_backend_and_compute_unit():
    assert command.BackendName.__args__ == tuple(BACKENDS)
    assert command.ComputeUnitsName.__args__ == COMPUTE_UNITS


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_opens_or_says_what_it_lacks_and_how_to_get_it(name):
    missing = missing_by_backend()[name]
    if missing is None:
        backend = open_backend(name, BackendOptions())
        assert hash(backend) == hash(open_backend(name, BackendOptions()))
        assert backend.describe_device().runtime
        return
    with pytest.raises(BackendError) as caught:
        open_backend(name, BackendOptions())
    assert repr(name) in str(caught.value)
    assert missing in str(caught.value)


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has the CUDA provider")
@pytest.mark.parametrize("accelerator", ["CUDA", "TensorRT"])
def test_without_the_provider_the_gpu_build_is_asked_for(accelerator):
    missing = OnnxRuntimeGpu(accelerator=accelerator).missing()
    assert "onnxruntime-gpu" in missing
    assert "CPUExecutionProvider" in missing
    assert ("pip install tensorrt" in missing) == (accelerator == "TensorRT")


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has the CUDA provider")
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")  # that ONNX Runtime goes on without is the point
@pytest.mark.parametrize("accelerator", ["CUDA", "TensorRT"])
def test_a_network_that_would_silently_run_on_the_processor_is_refused(accelerator):
    with pytest.raises(BackendError, match=r"would run on the processor.*onnxruntime-gpu"):
        OnnxRuntimeGpu(accelerator=accelerator).make_timer(TINY, resolution=32, rng=rng())


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can")
@pytest.mark.parametrize("target", ["mac", "iphone"])
def test_core_ml_asks_for_apples_devices(target):
    missing = CoreMl(target=target).missing()
    assert "a Mac with macOS" in missing
    assert "CSV file" in missing


def test_a_core_ml_reading_is_the_median_of_a_few_runs_of_the_package(monkeypatch):
    pytest.importorskip("coremltools")
    packages = []

    class Session:
        """Apple's devices, which only a Mac reaches."""

        def make_timer(self, package, *, compute_units):
            packages.append((package, compute_units))
            return lambda runs: [1.0, 9.0, 2.0, 3.0, 8.0][:runs]

    monkeypatch.setattr(coreml, "_open_session", lambda target, development_team: Session())
    timer = CoreMl(compute_units="cpu-and-ne").make_timer(TINY, resolution=32, rng=rng())
    ((package, compute_units),) = packages
    assert compute_units == "cpu-and-ne"
    assert (package / "Manifest.json").is_file()
    assert timer() == 3.0
    del timer
    gc.collect()
    assert not package.parent.exists()


def test_a_network_that_core_ml_refuses_leaves_no_folder(tmp_path, monkeypatch):
    pytest.importorskip("coremltools")

    class Session:
        def make_timer(self, package, *, compute_units):
            raise EvaluationError("no such thing")

    monkeypatch.setattr(coreml, "_open_session", lambda target, development_team: Session())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(EvaluationError, match="no such thing"):
        CoreMl().make_timer(TINY, resolution=32, rng=rng())
    with pytest.raises(BackendError, match="networks of the star design space"):
        CoreMl().make_timer(convolutions(1), resolution=32, rng=rng())
    assert not list(tmp_path.glob("starsearch-*"))


def test_a_bound_session_computes_and_takes_time_on_any_memory():
    session = build_session(as_onnx(TINY, resolution=32, rng=rng()))
    timer = IoBindingTimer(session, memory="cpu", rng=rng())
    assert timer() > 0
    image = rng().standard_normal((1, 3, 32, 32), dtype=np.float32)
    (bound,) = timer._binding.copy_outputs_to_cpu()
    np.testing.assert_array_equal(bound, session.run(None, {"input": image})[0])


@pytest.mark.parametrize("model", [convolutions(1, batch="N"), whole_numbers()])
def test_a_bound_session_refuses_inputs_it_cannot_fill(model):
    with pytest.raises(EvaluationError, match="'x0' is tensor"):
        IoBindingTimer(build_session(model), memory="cpu", rng=rng())


class Driver:
    """CUDA's driver as ctypes calls it; `failing` is the call that fails."""

    def __init__(self, failing=None):
        self.failing = failing

    def cuInit(self, flags):  # noqa: N802 - CUDA's names
        return 100 * (self.failing == "cuInit")

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = ordinal + 7
        return 101 * (self.failing == "cuDeviceGet")

    def cuDeviceGetName(self, name, length, device):  # noqa: N802
        assert device.value == 7
        name.value = b"NVIDIA H200"
        return 1 * (self.failing == "cuDeviceGetName")


def test_the_gpu_is_named_by_cudas_driver():
    assert ask_driver_for_name(Driver()) == "NVIDIA H200"
    for failing in ("cuInit", "cuDeviceGet", "cuDeviceGetName"):
        assert ask_driver_for_name(Driver(failing)) is None


@pytest.mark.skipif(HAS_CUDA, reason="this machine may have a GPU")
def test_without_a_driver_the_gpu_has_no_model():
    assert gpu_name() == "NVIDIA GPU"


def test_versions_of_cuda_and_tensorrt_are_said_where_they_are_known():
    assert accelerator_text("CUDA", cuda="12.8", tensorrt="") == "CUDA 12.8"
    assert accelerator_text("TensorRT", cuda="12.8", tensorrt="10.13.2") == "TensorRT 10.13.2, CUDA 12.8"
    assert accelerator_text("TensorRT", cuda="", tensorrt="") == "TensorRT, CUDA"


@pytest.mark.parametrize("name", ["onnxruntime-cpu", "torch-eager"])
def test_a_backend_is_opened_again_as_its_device_describes_it(name):
    backend = open_backend(name, BackendOptions(threads=3))
    assert reopen_backend(name, backend.describe_device()) == backend


@pytest.mark.parametrize("units", COMPUTE_UNITS)
def test_core_mls_compute_units_are_read_from_its_device(units):
    device = CoreMl(compute_units=units).describe_device()
    assert compute_units_of(device) == BackendOptions.of_device(device).compute_units == units
    assert MeasureSpec.like("coreml", device, resolution=64) == MeasureSpec(
        backend="coreml", compute_units=units, resolution=64
    )


def test_another_backends_device_has_all_compute_units():
    assert compute_units_of(TorchEager().describe_device()) == "all"


def test_a_gpus_device_leaves_out_what_says_nothing_there():
    device = OnnxRuntimeGpu(accelerator="CUDA").describe_device()
    assert (device.threads, device.cores, device.governor) == (None, None, None)
    assert " CUDA" in device.text
    assert "thread" not in device.text


def test_an_architecture_is_the_same_network_as_onnx_and_as_module():
    image = draw_image(64)
    module = as_module(TINY, resolution=64, rng=rng())
    with torch.inference_mode():
        expected = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(run_onnx(as_onnx(TINY, resolution=64, rng=rng()), image), expected, atol=1e-4)


@pytest.mark.parametrize("module", [Pooling(), build_model(TINY, num_classes=7, in_chans=1)], ids=["other", "star"])
def test_a_module_becomes_onnx_as_it_is_and_stays_so(module):
    module.train()
    channels = getattr(module, "in_chans", 3)
    image = draw_image(64, channels)
    found = run_onnx(as_onnx(module, resolution=64, rng=rng()), image)
    assert module.training
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_module_that_cannot_be_traced_at_a_resolution_fails_in_one_line():
    with pytest.raises(EvaluationError, match="cannot export Pooling as ONNX at 2 px") as caught:
        as_onnx(Pooling(), resolution=2, rng=rng())
    assert "\n" not in str(caught.value)


def test_networks_of_another_kind_are_refused_with_what_takes_them():
    with pytest.raises(BackendError, match="onnxruntime backend"):
        as_module(convolutions(1), resolution=32, rng=rng())
    for network in (convolutions(1), Pooling()):
        with pytest.raises(BackendError, match="onnxruntime backend"):
            as_layers(network, resolution=32, rng=rng())


def test_pytorch_runs_on_as_many_threads_as_asked_and_gets_its_own_back():
    before, seen = torch.get_num_threads(), []

    class Spy(Pooling):
        def forward(self, image):
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training))
            return super().forward(image)

    other = before + 1
    assert TorchEager(threads=other).make_timer(Spy().train(), resolution=16, rng=rng())() > 0
    assert seen == [(other, True, False)]
    assert torch.get_num_threads() == before


def test_a_module_that_fails_fails_in_one_line():
    timer = TorchTimer(Pooling().eval(), resolution=2, rng=rng())
    with pytest.raises(EvaluationError, match="PyTorch could not run the network") as caught:
        timer()
    assert "\n" not in str(caught.value)

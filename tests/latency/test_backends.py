import numpy as np
import pytest
import torch

from starsearch.errors import BackendError, EvaluationError
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.latency.backends.backend import BACKENDS, BackendOptions, missing_by_backend, open_backend
from starsearch.latency.backends.networks import as_layers, as_module, as_onnx
from starsearch.latency.backends.onnxruntime import build_session
from starsearch.latency.backends.torch_eager import TorchEager

from .networks import convolutions

TINY = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1")


class Pooling(torch.nn.Module):
    """A network that is none of ours."""

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


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_opens_or_says_what_it_lacks_and_how_to_get_it(name):
    missing = missing_by_backend()[name]
    if missing is None:
        open_backend(name, BackendOptions())
        return
    with pytest.raises(BackendError) as caught:
        open_backend(name, BackendOptions())
    assert repr(name) in str(caught.value)
    assert missing in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime-cpu", "torch-eager"])
def test_a_backend_is_opened_again_as_its_device_describes_it(name):
    backend = open_backend(name, BackendOptions(threads=3))
    assert open_backend(name, BackendOptions.of_device(backend.describe_device())) == backend


def test_an_architecture_is_the_same_network_as_onnx_and_as_module():
    image = draw_image(64)
    module = as_module(TINY, resolution=64, rng=rng())
    with torch.inference_mode():
        expected = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(run_onnx(as_onnx(TINY, resolution=64, rng=rng()), image), expected, atol=1e-4)


@pytest.mark.parametrize("module", [Pooling(), build_model(TINY, num_classes=7)], ids=["other", "star"])
def test_a_module_becomes_onnx_as_it_is_and_stays_so(module):
    module.train()
    image = draw_image(64)
    found = run_onnx(as_onnx(module, resolution=64, rng=rng()), image)
    assert module.training
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_networks_that_a_backend_cannot_run_are_refused_in_one_line():
    assert as_layers(convolutions(1), resolution=32, rng=rng()) is None
    assert as_layers(Pooling(), resolution=32, rng=rng()) is None
    with pytest.raises(BackendError, match="onnxruntime backend"):
        as_module(convolutions(1), resolution=32, rng=rng())
    with pytest.raises(EvaluationError, match="cannot export Pooling as ONNX at 2 px") as caught:
        as_onnx(Pooling(), resolution=2, rng=rng())
    assert "\n" not in str(caught.value)
    timer = TorchEager(BackendOptions()).make_timer(Pooling(), resolution=2, rng=rng())
    with pytest.raises(EvaluationError, match="PyTorch could not run the network") as caught:
        timer()
    assert "\n" not in str(caught.value)


def test_pytorch_runs_on_as_many_threads_as_asked_and_gets_its_own_back():
    before, seen = torch.get_num_threads(), []

    class Spy(Pooling):
        def forward(self, image):
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), self.training))
            return super().forward(image)

    eager = TorchEager(BackendOptions(threads=before + 1))
    assert eager.make_timer(Spy().train(), resolution=16, rng=rng())() > 0
    assert seen == [(before + 1, True, False)]
    assert torch.get_num_threads() == before

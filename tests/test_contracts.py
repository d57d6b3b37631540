"""What starsearch itself has passes the contracts that others' additions are held to."""

import pkgutil

import pytest

from starsearch.data import open_data
from starsearch.evaluators import ProxyEvaluator
from starsearch.export.formats import formats
from starsearch.families.layers import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.latency.backends.backend import BACKENDS, BackendOptions
from starsearch.recipe import Fidelity
from starsearch.search.executor import LocalExecutor
from starsearch.testing import BackendContract, EvaluatorContract, ExecutorContract, FamilyContract, FormatContract
from tests.families.test_architecture import EVERY_FIELD
from tests.families.toy import registered


class TestProxyEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self):
        fidelity = Fidelity(resolution=16, samples=64, validation_samples=50)
        return ProxyEvaluator(data=open_data("digits"), fidelity=fidelity)


class TestStarNet(FamilyContract):
    functions = ("relu", "silu", "hard_swish", "leaky_relu")
    texts = (
        "starnet_s050",
        EVERY_FIELD,
        *(f"starnet:embed_dim=8,depths=1-1,act_type={name}" for name in functions),
        *(
            f"starnet:embed_dim=8,depths=1-1-1,branches=one-self-both,activation={name}"
            for name in ACTIVATION_PLACEMENTS
        ),
        *(f"starnet:embed_dim=8,depths=1-1,ops={name},branches=both-one" for name in BRANCH_OPS),
    )


class TestToy(FamilyContract):
    texts = ("toy_small", "toy_large", "toy:width=12,depths=2-1,kernel_size=5-3", "toy:depths=0-1")

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch):
        registered(monkeypatch)


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture
    def make_executor(self):
        return LocalExecutor


@pytest.mark.parametrize("name", BACKENDS, scope="class")
class TestBackends(BackendContract):
    @pytest.fixture
    def make_backend(self, name):
        return lambda: pkgutil.resolve_name(BACKENDS[name])(BackendOptions())


@pytest.mark.parametrize("name", formats(), scope="class")
class TestFormats(FormatContract):
    @pytest.fixture
    def form(self, name):
        library = {"openvino": "openvino", "litert": "litert_torch", "executorch": "executorch"}.get(name)
        if library is not None:
            pytest.importorskip(library)
        return formats()[name]


class TestFormatsOfDemoNet(TestFormats):
    text = "demonet:width=16,depths=1,layer_scale=1.0"

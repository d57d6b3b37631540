"""Core ML as far as it can be tested without a Mac: what is asked of coremltools, and what is said where it lacks."""

import gc
import json
import platform
import shutil
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from starsearch.errors import BackendError, EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.backends.backend import COMPUTE_UNITS, BackendOptions, PlacingBackend, open_backend
from starsearch.latency.backends.coreml import Iphone, Mac, attached_iphone, read_placement
from starsearch.latency.measure import MeasureSpec

from .networks import convolutions

pytest.importorskip("coremltools", reason="needs the extra coreml")

from coremltools.models import compute_device, compute_plan
from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
from coremltools.models.ml_program.experimental.remote_device import Device

SMALL = parse_architecture("starnet:embed_dim=4,depths=1")
MAC, IPHONE = Mac(BackendOptions()), Iphone(BackendOptions(development_team="ABCDE12345"))
USUAL = {"resolution": 32, "rng": np.random.default_rng(0)}


@pytest.fixture
def mac(monkeypatch, tmp_path):
    """A Mac with Xcode, as far as Python can tell."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class LoadedModel:
    """What coremltools loads on a Mac or a phone: a run takes 3, 4, 5 … ms, told in nanoseconds."""

    def __init__(self, **asked):
        self.asked, self.inputs, self.loads = asked, [], 0

    async def load(self):
        self.loads += 1

    def make_state_if_needed(self):
        return None

    async def predict(self, inputs, state):
        self.inputs.append(inputs)
        return {}

    @property
    def last_predict_duration_in_nano_seconds(self):
        return (2 + len(self.inputs)) * 1_000_000

    async def retrieve_compute_plan(self):
        return make_plan([("conv", "cpu", ["cpu"], 1.0)])


@pytest.fixture
def loaded(monkeypatch):
    """All that coremltools is asked to load, in the place of Apple's framework."""
    models = []
    monkeypatch.setattr(
        MLModelAsyncWrapper,
        "from_spec_or_path",
        staticmethod(lambda **a: models.append(LoadedModel(**a)) or models[-1]),
    )
    return models


def test_a_reading_is_the_median_of_five_runs_after_one_that_is_not_counted(mac, loaded, tmp_path):
    timer = MAC.make_timer(SMALL, **USUAL)
    assert timer() == 6.0  # of 4, 5, 6, 7 and 8
    assert timer() == 12.0
    (model,) = loaded
    assert (len(model.inputs), model.loads, model.asked["device"]) == (12, 1, None)
    assert len(list(tmp_path.glob("starsearch-*/*.mlpackage"))) == 1
    del timer
    gc.collect()
    assert not list(tmp_path.glob("starsearch-*/*.mlpackage"))


@pytest.mark.parametrize("units", COMPUTE_UNITS)
def test_the_compute_units_are_asked_for_and_read_from_the_device(units, mac, loaded):
    backend = Mac(BackendOptions(compute_units=units))
    placement = backend.describe_placement(SMALL, **USUAL)
    assert loaded[0].asked["compute_units"].name == units.upper().replace("-", "_")
    assert [op.type for op in placement.cpu_operations] == ["conv"]
    assert MeasureSpec.like("coreml", backend.describe_device()).options == backend.options
    assert isinstance(backend, PlacingBackend)
    assert not isinstance(open_backend("onnxruntime-cpu", BackendOptions()), PlacingBackend)


def test_a_network_that_fails_leaves_no_folder_and_its_reason(mac, loaded, monkeypatch, tmp_path):
    with pytest.raises(BackendError, match="onnxruntime backend"):
        MAC.make_timer(convolutions(1), **USUAL)
    assert not list(tmp_path.glob("starsearch-*"))

    async def fail(self, inputs, state):
        raise ValueError("the phone went to sleep")

    monkeypatch.setattr(LoadedModel, "predict", fail)
    with pytest.raises(EvaluationError, match="could not run the package: the phone went to sleep"):
        MAC.make_timer(SMALL, **USUAL)()


def test_a_phone_is_prepared_once_for_many_networks(devicectl, loaded, monkeypatch):
    devicectl({**PHONE, "deviceProperties": {"osVersionNumber": "18.1"}})
    prepared = []

    class Phone:
        session = SimpleNamespace(stop=lambda: None)

        async def prepare_for_model_debugging(self, *, credentials, working_directory):
            assert (working_directory / "build").is_dir()
            prepared.append(credentials.development_team)
            return self

    phone = Phone()
    monkeypatch.setattr(Device, "get_connected_devices", staticmethod(lambda device_type: [phone]))
    IPHONE.describe_placement(SMALL, **USUAL)
    IPHONE.make_timer(SMALL, **USUAL)()
    assert prepared == ["ABCDE12345"]
    assert [model.asked["device"] for model in loaded] == [phone, phone]


PHONE = {
    "connectionProperties": {"tunnelState": "connected"},
    "deviceProperties": {"name": "Ada's phone", "osVersionNumber": "17.3.1"},
    "hardwareProperties": {"deviceType": "iPhone", "marketingName": "iPhone 15 Pro", "udid": "0"},
}


@pytest.fixture
def devicectl(mac, tmp_path, monkeypatch):
    """Puts an `xcrun` on PATH that lists these devices."""

    def _devicectl(*devices):
        listed = tmp_path / "devices.json"
        listed.write_text(json.dumps({"result": {"devices": devices}}))
        xcrun = tmp_path / "xcrun"
        xcrun.write_text(f'#!/bin/sh\n[ "$4" = --json-output ] && /bin/cp "{listed}" "$5"\n')
        xcrun.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    attached_iphone.cache_clear()
    yield _devicectl
    attached_iphone.cache_clear()


def test_without_a_phone_the_user_is_told_how_to_connect_one(devicectl):
    assert "devicectl cannot say which iPhones are connected" in IPHONE.missing()
    with pytest.MonkeyPatch.context() as without_xcode:
        without_xcode.setattr(shutil, "which", lambda tool: None if tool == "devicectl" else tool)
        assert "through Xcode 15 or later; devicectl cannot be found" in IPHONE.missing()
    devicectl({**PHONE, "connectionProperties": {"tunnelState": "disconnected"}})
    assert "No iPhone is connected. Attach one by cable, unlock it, trust" in IPHONE.missing()
    devicectl(PHONE)
    assert IPHONE.missing() is None


def test_a_phone_is_described_by_its_model_and_system_and_not_by_its_owners_name(devicectl):
    devicectl({**PHONE, "hardwareProperties": {"deviceType": "iPad"}}, PHONE)
    device = IPHONE.describe_device()
    assert (device.processor, device.system) == ("iPhone 15 Pro", "iOS")
    assert device.runtime.startswith("Core ML of iOS 17.3.1, coremltools ")
    assert "Ada" not in repr(device)


def test_placement_needs_a_later_system_than_timing(devicectl, loaded, monkeypatch):
    assert MAC.missing_for_placement() is None
    devicectl(PHONE)
    assert "from iOS 17.4 on; the iPhone has 17.3.1" in IPHONE.missing_for_placement()
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.2.1", ("", "", ""), "arm64"))
    assert MAC.missing() is None
    with pytest.raises(EvaluationError, match=r"macOS 14\.4 or later; this one has 14\.2\.1"):
        MAC.describe_placement(SMALL, **USUAL)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can")
@pytest.mark.parametrize("backend", [MAC, IPHONE])
def test_a_machine_that_is_no_mac_is_told_what_it_needs(backend):
    assert "a Mac with macOS 13.0 or later; this machine runs Linux" in backend.missing()
    assert "CSV file" in backend.missing()


DEVICES = {
    "cpu": compute_device.MLCPUComputeDevice,
    "gpu": compute_device.MLGPUComputeDevice,
    "neural_engine": compute_device.MLNeuralEngineComputeDevice,
}


def make_plan(rows):
    """A plan of (type, preferred, supported, cost); without a processor it is a constant."""
    operations, usages, costs = [], {}, {}
    for number, (op_type, preferred, supported, cost) in enumerate(rows):
        output = SimpleNamespace(name=f"{op_type}_{number}")
        operations.append(SimpleNamespace(operator_name=op_type, outputs=[output]))
        if preferred is not None:
            # Its constructor takes what only Apple's framework makes.
            devices = {name: object.__new__(kind) for name, kind in DEVICES.items()}
            usages[number] = compute_plan.MLComputePlanDeviceUsage(
                preferred_compute_device=devices[preferred],
                supported_compute_devices=[devices[name] for name in supported],
            )
        if cost is not None:
            costs[number] = compute_plan.MLComputePlanCost(weight=cost)
    function = SimpleNamespace(block=SimpleNamespace(operations=operations))
    return SimpleNamespace(
        model_structure=SimpleNamespace(program=SimpleNamespace(functions={"main": function})),
        get_compute_device_usage_for_mlprogram_operation=lambda one: usages.get(operations.index(one)),
        get_estimated_cost_for_mlprogram_operation=lambda one: costs.get(operations.index(one)),
    )


def test_shares_of_cost_add_up_and_fall_backs_are_named_most_expensive_first():
    everywhere = ["cpu", "gpu", "neural_engine"]
    rows = [
        ("const", None, [], None),
        ("cast", "cpu", ["cpu", "gpu"], 0.05),
        ("conv", "neural_engine", everywhere, 0.5),
        ("gelu", "cpu", ["cpu"], 0.15),
        ("mul", "gpu", everywhere, 0.1),
        ("reshape", "cpu", ["cpu"], None),
    ]
    placement = read_placement(make_plan(rows))
    assert placement.operations == 5
    assert (placement.cpu_share, placement.gpu_share, placement.neural_engine_share) == pytest.approx(
        (0.25, 0.125, 0.625)  # of the 0.8 that has a processor
    )
    found = [(op.name, op.type, op.is_forced) for op in placement.cpu_operations]
    assert found == [("gelu_3", "gelu", True), ("cast_1", "cast", False), ("reshape_5", "reshape", True)]
    assert placement.cpu_operations[0].cost_share == pytest.approx(0.1875)


def test_a_plan_without_costs_or_of_no_program_is_refused():
    with pytest.raises(EvaluationError, match=r"estimates no costs.*macOS 14\.4"):
        read_placement(make_plan([("conv", "cpu", ["cpu"], None)]))
    with pytest.raises(EvaluationError, match="not of a program"):
        read_placement(SimpleNamespace(model_structure=SimpleNamespace(program=None)))

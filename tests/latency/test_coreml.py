import json
import platform
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from starsearch.errors import EvaluationError
from starsearch.export import random_weights
from starsearch.export.coreml import build_coreml
from starsearch.export.coreml_reading import read_package
from starsearch.families.family import lower
from starsearch.families.text import parse_architecture
from starsearch.latency.backends import BackendOptions, PlacingBackend, open_backend
from starsearch.latency.backends.coreml import CoreMl, compute_units_of
from starsearch.latency.coreml import CoreMLSession, missing_for_placement, missing_for_timing, place_operations
from starsearch.latency.coreml_placement import read_placement
from starsearch.latency.iphone import attached_iphone, first_connected

pytest.importorskip("coremltools", reason="needs the extra coreml")

from coremltools.models import compute_device, compute_plan
from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper
from coremltools.models.ml_program.experimental.remote_device import Device

SMALL = "starnet:embed_dim=4,depths=1"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """By precision and whether it is a classifier, of one network of 5 classes."""
    folder = tmp_path_factory.mktemp("packages")
    layers = lower(parse_architecture(SMALL), resolution=16, num_classes=5)
    weights = random_weights(layers, np.random.default_rng(0))
    paths = {}
    for precision in ("fp16", "fp32"):
        for class_names in ("", "abcde"):
            path = folder / f"{precision}{class_names}.mlpackage"
            build_coreml(layers, weights, precision=precision, class_names=class_names).save(str(path))
            paths[precision, bool(class_names)] = path
    return paths


def time_package(package, *, compute_units="all", target="mac", runs=2):
    with CoreMLSession(target=target) as session:
        return session.make_timer(package, compute_units=compute_units)(runs)


@pytest.fixture
def mac(monkeypatch):
    """A Mac with Xcode, as far as Python can tell."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")


class LoadedModel:
    """What coremltools loads on a Mac or a phone: a run takes 3, 4, 5 … ms, told in nanoseconds."""

    def __init__(self, plan=None, **asked):
        self.asked = asked
        self.plan = plan
        self.inputs = []
        self.loads = 0

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
        return self.plan


@pytest.fixture
def loaded(monkeypatch):
    """All that coremltools is asked to load, in the place of Apple's framework."""
    models = []

    def load(**asked):
        models.append(LoadedModel(plan=_plan([("conv", "cpu", ["cpu"], 1.0)]), **asked))
        return models[-1]

    monkeypatch.setattr(MLModelAsyncWrapper, "from_spec_or_path", staticmethod(load))
    return models


def test_milliseconds_come_from_nanoseconds_and_the_first_run_is_not_counted(mac, loaded, packages):
    assert time_package(packages["fp16", False], runs=3) == [4.0, 5.0, 6.0]
    (model,) = loaded
    assert len(model.inputs) == 4
    assert model.asked["device"] is None


def test_a_timer_loads_its_package_once(mac, loaded, packages):
    with CoreMLSession() as session:
        timer = session.make_timer(packages["fp16", False])
        assert len(timer(2)) + len(timer(5)) == 7
    assert [model.loads for model in loaded] == [1]


@pytest.mark.parametrize(
    ("compute_units", "expected"),
    [("all", "ALL"), ("cpu-only", "CPU_ONLY"), ("cpu-and-gpu", "CPU_AND_GPU"), ("cpu-and-ne", "CPU_AND_NE")],
)
def test_the_compute_units_are_those_that_were_asked_for(compute_units, expected, mac, loaded, packages):
    time_package(packages["fp16", False], compute_units=compute_units, runs=1)
    assert loaded[0].asked["compute_units"].name == expected


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("classifies", [False, True])
def test_what_is_timed_reads_and_writes_tensors_and_computes_the_same(precision, classifies, mac, loaded, packages):
    package = packages[precision, classifies]
    before = {file: file.read_bytes() for file in package.rglob("*") if file.is_file()}
    time_package(package, runs=1)
    asked = loaded[0].asked
    (image,), (output,) = asked["spec_or_path"].description.input, asked["spec_or_path"].description.output
    assert image.type.WhichOneof("Type") == output.type.WhichOneof("Type") == "multiArrayType"
    assert tuple(image.type.multiArrayType.shape) == (1, 3, 16, 16)
    assert (output.name, tuple(output.type.multiArrayType.shape)) == (
        "probabilities" if classifies else "logits",
        (1, 5),
    )
    (pixels,) = loaded[0].inputs[0].values()
    assert (pixels.dtype, pixels.shape) == (np.float32, (1, 3, 16, 16))
    assert pixels.min() >= 0 < pixels.max() <= 255
    assert before == {file: file.read_bytes() for file in package.rglob("*") if file.is_file()}


def test_the_changed_package_is_a_whole_one_that_coremltools_reads_back(mac, packages, tmp_path):
    package = packages["fp16", True]
    with CoreMLSession() as session:
        session._open(package, "all").save(str(tmp_path / "tensors.mlpackage"))
    description, operations, class_names = read_package(tmp_path / "tensors.mlpackage")
    assert class_names == ()
    assert not description.predictedFeatureName
    _, expected, _ = read_package(package)
    assert [(op.name, op.type, op.shape) for op in operations] == [(op.name, op.type, op.shape) for op in expected]


class Iphone:
    """A connected phone, as far as its preparation goes."""

    def __init__(self):
        self.session = SimpleNamespace(stop=lambda: self.events.append("stopped"))
        self.events = []

    async def prepare_for_model_debugging(self, *, credentials, working_directory):
        assert (working_directory / "build").is_dir()
        self.events.append(f"prepared for {credentials.development_team}")
        return self


@pytest.fixture
def iphone(monkeypatch):
    phone = Iphone()
    monkeypatch.setattr(Device, "get_connected_devices", staticmethod(lambda device_type: [phone]))
    return phone


def test_a_phone_is_prepared_once_for_many_packages_and_left_in_the_end(mac, iphone, loaded, packages):
    with CoreMLSession(target="iphone", development_team="ABCDE12345") as session:
        for package in packages.values():
            session.make_timer(package)(1)
        assert iphone.events == ["prepared for ABCDE12345"]
    assert iphone.events[1:] == ["stopped"]
    assert all(model.asked["device"] is iphone for model in loaded)


def test_a_phone_is_left_when_a_run_fails_and_the_reason_is_told(mac, iphone, loaded, packages, monkeypatch):
    async def fail(self, inputs, state):
        raise ValueError("the phone went to sleep")

    monkeypatch.setattr(LoadedModel, "predict", fail)
    with pytest.raises(EvaluationError, match="could not run the package: the phone went to sleep"):
        time_package(packages["fp16", False], target="iphone")
    assert iphone.events[-1] == "stopped"


PHONE = {
    "identifier": "00000000-0000-0000-0000-000000000000",
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


def test_without_a_phone_the_user_is_told_how_to_connect_one(devicectl, packages, monkeypatch):
    monkeypatch.setattr(Device, "get_connected_devices", staticmethod(lambda device_type: []))
    devicectl({**PHONE, "connectionProperties": {"tunnelState": "disconnected"}})
    with pytest.raises(EvaluationError, match=r"No iPhone is connected\. Attach one by cable, unlock it, trust"):
        time_package(packages["fp16", False], target="iphone")
    assert "No iPhone is connected" in missing_for_timing("iphone")
    devicectl(PHONE)
    assert missing_for_timing("iphone") is None


def test_a_mac_whose_devicectl_fails_says_so(devicectl):
    assert "devicectl cannot say which iPhones are connected" in missing_for_timing("iphone")


def test_a_phone_is_described_by_its_model_and_system_and_not_by_its_owners_name(devicectl):
    devicectl({**PHONE, "hardwareProperties": {"deviceType": "iPad"}}, PHONE)
    device = CoreMl(target="iphone", compute_units="cpu-and-ne").describe_device()
    assert device.processor == "iPhone 15 Pro"
    assert device.runtime.startswith("Core ML of iOS 17.3.1, coremltools ")
    assert device.system == "iOS"
    assert compute_units_of(device) == "cpu-and-ne"
    assert "Ada" not in repr(device)


def test_a_phone_without_a_marketing_name_is_its_product():
    hardware = {"deviceType": "iPhone", "productType": "iPhone16,1"}
    assert first_connected({"result": {"devices": [{**PHONE, "hardwareProperties": hardware}]}}).model == "iPhone16,1"


def test_placement_takes_a_later_system_than_timing(devicectl, monkeypatch):
    assert missing_for_placement() is None
    devicectl(PHONE)
    assert "from iOS 17.4 on; the iPhone has 17.3.1" in missing_for_placement("iphone")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.2.1", ("", "", ""), "arm64"))
    assert missing_for_timing() is None
    assert "macOS 14.4 or later; this one has 14.2.1" in missing_for_placement()


@pytest.mark.parametrize("measure", [time_package, place_operations])
def test_a_machine_that_is_no_mac_is_told_what_it_takes(measure, packages, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(EvaluationError, match=r"on a Mac with macOS 13\.0 or later; this machine runs Linux.*CSV file"):
        measure(packages["fp16", False])


def test_an_old_mac_times_but_tells_no_placement(mac, loaded, packages, monkeypatch):
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.2.1", ("", "", ""), "arm64"))
    assert len(time_package(packages["fp16", False], runs=2)) == 2
    with pytest.raises(EvaluationError, match=r"macOS 14\.4 or later; this one has 14\.2\.1"):
        place_operations(packages["fp16", False])


def test_a_mac_without_xcode_is_told_what_a_phone_takes(mac, packages, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "devicectl" else tool)
    with pytest.raises(EvaluationError, match="through Xcode 15 or later; devicectl cannot be found"):
        time_package(packages["fp16", False], target="iphone")


def test_what_does_not_exist_is_named(mac, loaded, packages, tmp_path):
    package = packages["fp16", False]
    with pytest.raises(EvaluationError, match="There is no Core ML package"):
        time_package(tmp_path / "none.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(EvaluationError, match="coremltools cannot read"):
        time_package(tmp_path / "empty.mlpackage")
    with pytest.raises(EvaluationError, match=r"compute_units is one of all, cpu-only.*; got 'gpu'"):
        time_package(package, compute_units="gpu")
    with pytest.raises(EvaluationError, match="target is one of mac, iphone; got 'ipad'"):
        time_package(package, target="ipad")
    with pytest.raises(EvaluationError, match="at least 1 run; got 0"):
        time_package(package, runs=0)


DEVICES = {
    "cpu": compute_device.MLCPUComputeDevice,
    "gpu": compute_device.MLGPUComputeDevice,
    "neural_engine": compute_device.MLNeuralEngineComputeDevice,
}


def _device(name):
    return object.__new__(DEVICES[name])  # its constructor takes what only Apple's framework makes


class Plan:
    """A plan of coremltools' own dataclasses, which Apple's framework fills on a Mac."""

    def __init__(self, model_structure, usages, costs):
        self.model_structure = model_structure
        self._usages, self._costs = usages, costs

    def get_compute_device_usage_for_mlprogram_operation(self, operation):
        return self._usages.get(operation.outputs[0].name)

    def get_estimated_cost_for_mlprogram_operation(self, operation):
        return self._costs.get(operation.outputs[0].name)


def _plan(rows):
    """Of (type, preferred, supported, cost); without a processor it is a constant."""
    operations, usages, costs = [], {}, {}
    for number, (op_type, preferred, supported, cost) in enumerate(rows):
        name = f"{op_type}_{number}"
        output = compute_plan.MLModelStructureProgramNamedValueType(
            name=name, type=compute_plan.MLModelStructureProgramValueType()
        )
        operations.append(
            compute_plan.MLModelStructureProgramOperation(
                inputs={}, operator_name=op_type, outputs=[output], blocks=[], __proxy__=None
            )
        )
        if preferred is not None:
            usages[name] = compute_plan.MLComputePlanDeviceUsage(
                preferred_compute_device=_device(preferred), supported_compute_devices=list(map(_device, supported))
            )
        if cost is not None:
            costs[name] = compute_plan.MLComputePlanCost(weight=cost)
    block = compute_plan.MLModelStructureProgramBlock(inputs=[], operations=operations, output_names=[])
    function = compute_plan.MLModelStructureProgramFunction(inputs=[], block=block)
    program = compute_plan.MLModelStructureProgram(functions={"main": function})
    structure = compute_plan.MLModelStructure(neuralnetwork=None, program=program, pipeline=None)
    return Plan(structure, usages, costs)


def test_shares_of_cost_add_up_and_fall_backs_are_named_dearest_first():
    everywhere = ["cpu", "gpu", "neural_engine"]
    placement = read_placement(
        _plan(
            [
                ("const", None, [], None),
                ("cast", "cpu", ["cpu", "gpu"], 0.05),
                ("conv", "neural_engine", everywhere, 0.5),
                ("gelu", "cpu", ["cpu"], 0.15),
                ("mul", "gpu", everywhere, 0.1),
                ("reshape", "cpu", ["cpu"], None),
            ]
        )
    )
    assert placement.operations == 5
    assert (placement.cpu_share, placement.gpu_share, placement.neural_engine_share) == pytest.approx(
        (0.25, 0.125, 0.625)  # of the 0.8 that has a processor
    )
    found = [(op.name, op.type, op.is_forced) for op in placement.cpu_operations]
    assert found == [("gelu_3", "gelu", True), ("cast_1", "cast", False), ("reshape_5", "reshape", True)]
    assert placement.cpu_operations[0].cost_share == pytest.approx(0.1875)


def test_a_network_wholly_on_the_neural_engine_has_no_cpu_operations():
    placement = read_placement(_plan([("conv", "neural_engine", ["cpu", "neural_engine"], 0.7)]))
    assert (placement.neural_engine_share, placement.cpu_share, placement.cpu_operations) == (1.0, 0.0, ())


def test_a_plan_without_costs_or_of_no_program_is_refused():
    with pytest.raises(EvaluationError, match=r"estimates no costs.*macOS 14\.4"):
        read_placement(_plan([("conv", "cpu", ["cpu"], None)]))
    structure = compute_plan.MLModelStructure(neuralnetwork=None, program=None, pipeline=None)
    with pytest.raises(EvaluationError, match="not of a program"):
        read_placement(Plan(structure, {}, {}))


def test_the_placement_of_a_package_is_that_of_its_plan(mac, loaded, packages):
    placement = place_operations(packages["fp16", True], compute_units="cpu-and-ne")
    assert placement.cpu_share == 1.0
    assert loaded[0].asked["compute_units"].name == "CPU_AND_NE"
    assert loaded[0].loads == 1


def test_the_backend_tells_the_placement_of_the_package_that_it_times(mac, loaded):
    backend = CoreMl(compute_units="cpu-and-gpu")
    assert isinstance(backend, PlacingBackend)
    placement = backend.describe_placement(parse_architecture(SMALL), resolution=32, rng=np.random.default_rng(0))
    assert [op.type for op in placement.cpu_operations] == ["conv"]
    assert loaded[0].asked["compute_units"].name == "CPU_AND_GPU"
    assert not isinstance(open_backend("onnxruntime-cpu", BackendOptions()), PlacingBackend)

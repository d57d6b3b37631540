import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import timm

from starsearch.errors import EvaluationError
from starsearch.families.family import count_macs
from starsearch.families.text import parse_architecture
from starsearch.latency.backends.backend import BACKENDS, CpuOperation, Placement
from starsearch.latency.backends.onnxruntime import Cpu, OnnxRuntimeTimer
from starsearch.latency.paired import DEFAULT_LIMITS
from tests.latency.networks import convolutions

TINY = "starnet:embed_dim=8,depths=1-1-1-1"


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch):
    """A scale that is off by a few percent will do, and pairs that scatter by more."""
    monkeypatch.setattr(Cpu, "calibration_runs", 10)
    monkeypatch.setattr("starsearch.latency.paired.DEFAULT_LIMITS", replace(DEFAULT_LIMITS, runs=2))


@pytest.fixture
def onnx_file(tmp_path):
    def _onnx_file(model, name="model.onnx"):
        path = tmp_path / name
        path.write_bytes(model)
        return path

    return _onnx_file


def measure_json(starsearch, *arguments):
    code, out, err = starsearch("latency", "measure", *arguments, "--json", "--pairs", 5, "--width", 0)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_an_architecture_is_measured_for_scripts_with_all_that_compares_it(starsearch):
    found = measure_json(starsearch, TINY, "--resolution", 64)
    assert found["architecture"] == TINY
    assert found["resolution"] == 64
    assert found["pairs"] == 5
    assert found["latency_ms"] == pytest.approx(found["ratio"] * found["reference_ms"])
    low, high = found["latency_ms_interval"]
    assert 0 < low <= found["latency_ms"] <= high
    assert found["macs"] == count_macs(parse_architecture(TINY), resolution=64)
    assert found["device_facts"]["threads"] == 1
    assert found["backend"] == "onnxruntime-cpu"
    assert found["placement"] is None


def test_people_read_the_interval_the_device_and_what_went_wrong(starsearch, onnx_file):
    options = ["--pairs", 5, "--width", 0.0001]
    code, out, err = starsearch("latency", "measure", onnx_file(convolutions(2)), *options)
    assert (code, err) == (0, "")
    for words in ("model.onnx:", "(5 pairs)", "95 % interval", "1 thread", "note: The 95 % interval is ±"):
        assert words in out


def test_an_onnx_file_is_measured_with_weights_that_lie_beside_it(starsearch, tmp_path):
    model = onnx.load_from_string(convolutions(1))
    path = tmp_path / "outside.onnx"
    onnx.save(model, path, save_as_external_data=True, location="outside.bin", size_threshold=0)
    assert measure_json(starsearch, path)["latency_ms"] > 0
    (tmp_path / "outside.bin").unlink()
    code, _, err = starsearch("latency", "measure", path)
    assert code == 2
    assert "outside.onnx" in err


def test_a_timm_model_is_measured_at_its_own_input_size(starsearch):
    found = measure_json(starsearch, "timm:test_efficientnet")
    assert found["architecture"] == "timm:test_efficientnet"
    assert found["resolution"] == timm.create_model("test_efficientnet").pretrained_cfg["input_size"][-1]
    assert found["macs"] is None
    assert found["latency_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere.onnx", "nowhere.onnx cannot be read"),
        ("timm:mobilenetv3_smal_100", "Did you mean 'mobilenetv3_small_100'"),
        ("starnet_s1 --backend onnxruntime", "onnxruntime-cpu"),
        ("starnet_s1 --threads 0", "--threads"),
        ("starnet_s1 --pairs 1", "--pairs"),
        ("garbage.onnx", "no ONNX file"),
        ("garbage.onnx --resolution 64", "leave out the resolution"),
        ("starnet_s1 --resolution 48x", "48x"),
        ("starnet_s1 --resolution 0x96", "HEIGHTxWIDTH"),
    ],
)
def test_what_cannot_be_measured_is_one_message(starsearch, onnx_file, arguments, words, monkeypatch):
    monkeypatch.chdir(onnx_file(b"not onnx", "garbage.onnx").parent)
    code, out, err = starsearch("latency", "measure", *arguments.split())
    assert (code, out) == (2, "")
    assert words in err


def test_the_fix_that_a_dynamic_input_is_told_works(starsearch, onnx_file, tmp_path):
    path, fixed = onnx_file(convolutions(1, batch="N")), tmp_path / "FIXED.onnx"
    _, _, err = starsearch("latency", "measure", path)
    fix = err.split("fix them: python ")[1].replace("MODEL.onnx", str(path)).replace("FIXED.onnx", str(fixed))
    subprocess.run([sys.executable, *fix.split()], check=True, capture_output=True)
    assert OnnxRuntimeTimer(fixed.read_bytes(), rng=np.random.default_rng(0))() > 0


def test_backends_are_listed_with_what_this_machine_lacks(starsearch):
    code, out, err = starsearch("latency", "backends", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == list(BACKENDS)
    assert found["onnxruntime-cpu"] is None
    code, out, _ = starsearch("latency", "backends")
    assert code == 0
    for name, lacks in found.items():
        assert name in out
        assert lacks is None or lacks.split()[0] in out


OPERATIONS = (
    CpuOperation(name="stages_0_star", type="mul", cost_share=0.15, is_forced=False),
    CpuOperation(name="head", type="linear", cost_share=0.05, is_forced=True),
)


class PlacingCpu(Cpu):
    """The processor's backend, with a placement to tell."""

    missing_here = None
    failure = None

    def missing_for_placement(self):
        return self.missing_here

    def describe_placement(self, network, *, resolution, rng):
        if self.failure:
            raise EvaluationError(self.failure)
        return Placement(
            cpu_share=0.2, gpu_share=0.0, neural_engine_share=0.8, cpu_operations=OPERATIONS, operations=40
        )


def test_where_core_ml_runs_the_operations_is_told_with_the_latency(starsearch, monkeypatch):
    monkeypatch.setitem(BACKENDS, "coreml", f"{__name__}:PlacingCpu")
    few = ("latency", "measure", TINY, "--resolution", 64, "--backend", "coreml", "--pairs", 5)
    code, out, err = starsearch(*few)
    assert (code, err) == (0, "")
    for words in ("40 operations", "80.0 % Neural Engine", "20.0 % CPU", "by choice: stages_0_star (mul), 15.0 %"):
        assert words in out
    found = json.loads(starsearch(*few, "--json")[1])
    assert found["placement"]["cpu_share"] == 0.2
    assert [operation["name"] for operation in found["placement"]["cpu_operations"]] == ["stages_0_star", "head"]


@pytest.mark.parametrize("attribute", ["missing_here", "failure"])
def test_a_latency_stands_where_the_placement_cannot_be_told(starsearch, monkeypatch, attribute):
    monkeypatch.setitem(BACKENDS, "coreml", f"{__name__}:PlacingCpu")
    monkeypatch.setattr(PlacingCpu, attribute, "it takes macOS 14.4.")
    found = measure_json(starsearch, TINY, "--resolution", 64, "--backend", "coreml")
    assert found["placement"] is None
    assert found["latency_ms"] > 0
    assert "Where the operations run is not known. it takes macOS 14.4." in found["notes"]

"""`starsearch export` in every format, on a study that the real command line has run."""

from __future__ import annotations

import importlib.util
import json
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from starsearch import api
from starsearch.errors import DataError, ExportError
from tests.command_line import starsearch


@pytest.fixture(scope="module")
def study(finished):
    return str(finished / "studies" / "few")


def test_the_padding_that_was_chosen_is_said_with_its_ratio(study, tmp_path):
    (exported,) = api.export_study(study, out=tmp_path / "best", formats=["onnx"])
    assert {path.name for path in exported.files} == {"model.onnx", "README.md"}
    (note,) = exported.notes
    assert re.fullmatch(r"model\.onnx: (Not padded|Padded): .*multiples of \d+ .*\.", note)


def test_without_padding_nothing_is_timed(study, tmp_path):
    (exported,) = api.export_study(study, out=tmp_path / "best", formats=["onnx"], pad=False)
    assert exported.notes == ()
    trained = onnx.load(tmp_path / "best" / "model.onnx")
    assert next(tensor for tensor in trained.graph.initializer if tensor.name == "stem.0.weight").dims[0] == 32


def test_an_int8_export_has_its_own_top1_and_its_own_time(study, tmp_path):
    out = str(tmp_path / "best")
    done = starsearch("export", study, "--trial", "0", "--format", "timm,onnx-int8", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recorded = pd.read_csv(f"{study}/trials.csv").set_index("number")["top1_percent"][0]
    assert f"{recorded:.2f} % in float32" in done.stdout
    assert "times as long as in float32" in done.stdout
    assert json.loads((tmp_path / "best" / "config.json").read_text())["num_classes"] == 10
    session = onnxruntime.InferenceSession(tmp_path / "best" / "model.int8.onnx")
    assert session.run(None, {"input": np.zeros((1, 3, 32, 32), np.float32)})[0].shape == (1, 10)
    api.export_study(study, trial=0, out=tmp_path / "best", formats=["timm"])  # takes the whole folder's place
    assert not (tmp_path / "best" / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [("elsewhere", DataError, "There is no data set 'elsewhere'"), ("pictures", ExportError, "is another one")],
)
def test_calibration_data_that_is_missing_or_another_is_refused_before_anything_is_written(
    study, tmp_path, monkeypatch, data, error, says
):
    from tests.data.pictures import write_pictures

    for split in ("train", "validation"):
        write_pictures(tmp_path / "pictures" / split, {"cat": 3, "dog": 3})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        api.export_study(study, out=tmp_path / "best", formats=["onnx-int8", "timm"], data=data)
    assert not (tmp_path / "best").exists()


@pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="the extra coreml is not installed")
def test_a_core_ml_export_says_what_was_verified(study, tmp_path):
    (exported,) = api.export_study(study, out=tmp_path / "best", formats=["coreml"])
    assert (tmp_path / "best" / "model.mlpackage").is_dir()
    assert "weights are the model's" in exported.notes[0]
    assert "on the study's calibration images and half precision ends at 65504" in exported.notes[0]


def test_an_unknown_format_lists_the_known_ones(study, tmp_path):
    with pytest.raises(ExportError, match=r"Did you mean 'onnx-int8'.*timm, onnx, onnx-int8, coreml"):
        api.export_study(study, out=tmp_path / "best", formats=["onnx_int8"])


def test_core_ml_without_coremltools_is_refused_before_anything_is_written(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)  # what Python keeps for a package that is not there
    with pytest.raises(ExportError, match=r"Core ML needs coremltools: pip install"):
        api.export_study(study, out=tmp_path / "best", formats=["timm", "onnx", "coreml"])
    assert not (tmp_path / "best").exists()

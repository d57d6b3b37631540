"""`starsearch export` in every format, on a study that the real command line has run."""

import importlib.util
import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

import starsearch.timm_models  # registers our networks
from starsearch.api.exporting import export_networks
from starsearch.api.validation import validate
from starsearch.data.preprocessing import Preprocessing, Validated
from starsearch.errors import DataError, ExportError
from starsearch.training.weight_file import save_weights
from tests.command_line import python, starsearch
from tests.data.pictures import write_pictures
from tests.export.networks import settled_model


@pytest.fixture(scope="module")
def study(finished):
    return str(finished / "studies" / "few")


def test_the_padding_that_was_chosen_is_said_with_its_ratio_and_without_it_nothing_is_timed(study, tmp_path):
    (exported,) = export_networks(study, out=tmp_path / "best", formats=["onnx"])
    assert {path.name for path in exported.files} == {"model.onnx", "run_onnx.py", "README.md"}
    (note,) = exported.notes
    assert re.fullmatch(r"model\.onnx: (Not padded|Padded): .*multiples of \d+ .*\.", note)
    (exported,) = export_networks(study, out=tmp_path / "best", formats=["onnx"], pad=False)
    assert exported.notes == ()


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
    export_networks(study, trial=0, out=tmp_path / "best", formats=["timm"])  # takes the whole folder's place
    assert not (tmp_path / "best" / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [("elsewhere", DataError, "'elsewhere' names no data set"), ("pictures", ExportError, "is another one")],
)
def test_calibration_data_that_is_missing_or_another_is_refused_before_anything_is_written(
    study, tmp_path, monkeypatch, data, error, says
):
    for split in ("train", "validation"):
        write_pictures(tmp_path / "pictures" / split, {"cat": 3, "dog": 3})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        export_networks(study, out=tmp_path / "best", formats=["onnx-int8", "timm"], data=data)
    assert not (tmp_path / "best").exists()


@pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="the extra coreml is not installed")
def test_a_core_ml_export_says_what_was_verified(study, tmp_path):
    (exported,) = export_networks(study, out=tmp_path / "best", formats=["coreml"])
    assert (tmp_path / "best" / "model.mlpackage").is_dir()
    assert "weights are the model's" in exported.notes[0]
    assert "on the study's calibration images and half precision ends at 65504" in exported.notes[0]


CLASSES = ("cat", "dog")
DIGITS = [str(digit) for digit in range(10)]
TINY = "starnet:embed_dim=8,depths=1-1,ops=sum-star,mlp_ratio=2"
PREPARED = Preprocessing(
    resolution=48, crop_pct=0.8, interpolation="bilinear", mean=(0.4,) * 3, std=(0.3,) * 3, orientation="exif"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights that says how its network is validated."""
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = settled_model(TINY, num_classes=2)
    save_weights(model, file, validated=Validated(preprocessing=PREPARED, classes=CLASSES))
    return file


@pytest.fixture(scope="module")
def best(weights):
    """The network of these weights in every format that runs here."""
    write_pictures(weights.parent / "data" / "validation", {"cat": 9, "dog": 9}, size=(64, 40))
    write_pictures(weights.parent / "data" / "train", {"cat": 3, "dog": 3})
    done = starsearch(
        *("export", TINY, "--weights", str(weights), "--format", "timm,onnx,onnx-int8,pt2", "--data", "data"),
        *("--dynamic-batch", "--no-pad", "--out", "best"),
        cwd=weights.parent,
    )
    assert done.returncode == 0, done.stderr
    assert f"weights of tiny.safetensors: {TINY}" in done.stdout
    assert re.search(r"model\.int8\.onnx: top-1 \d+\.\d\d ± \d+\.\d\d % of 18 validation images", done.stdout)
    return weights.parent / "best"


def test_an_onnx_file_says_what_it_is_and_how_it_was_validated(best):
    for name in ("model.onnx", "model.int8.onnx"):
        about = {entry.key: entry.value for entry in onnx.load(best / name).metadata_props}
        assert json.loads(about["class_names"]) == list(CLASSES)
        assert json.loads(about["preprocessing"]) == {
            "resolution": 48,
            "crop_pct": 0.8,
            "crop_mode": "center",
            "interpolation": "bilinear",
            "orientation": "exif",
            "mean": [0.4] * 3,
            "std": [0.3] * 3,
        }
        assert (about["weights"], about["architecture"]) == ("weights of tiny.safetensors", TINY)


def test_an_onnx_file_is_validated_as_the_folder_it_lies_in(best, tmp_path):
    data = str(best.parent / "data")
    expected = validate(str(best), data, device="cpu", workers=0)
    shutil.copy(best / "model.onnx", tmp_path / "alone.onnx")
    bare = onnx.load(best / "model.onnx")
    del bare.metadata_props[:]
    shutil.copytree(best, tmp_path / "beside")
    onnx.save(bare, tmp_path / "beside" / "model.onnx")
    for file in (tmp_path / "alone.onnx", tmp_path / "beside" / "model.onnx"):
        found = validate(str(file), data, device="cpu", workers=0)
        for name in ("top1_percent", "resolution", "crop_pct", "interpolation", "mean", "std", "notes"):
            assert getattr(found, name) == getattr(expected, name)
    assert (expected.resolution, expected.crop_pct, expected.interpolation) == (48, 0.8, "bilinear")
    stored = onnx.load(best / "model.onnx")
    entry = next(entry for entry in stored.metadata_props if entry.key == "preprocessing")
    entry.value = entry.value.replace('"exif"', '"stored"')
    onnx.save(stored, tmp_path / "stored.onnx")
    found = validate(str(tmp_path / "stored.onnx"), data, device="cpu", workers=0)
    assert (found.data, expected.data) == ("data?orientation=stored", "data")
    onnx.save(bare, tmp_path / "bare.onnx")
    unprepared = validate(str(tmp_path / "bare.onnx"), data, device="cpu", workers=0)
    assert "does not name its classes" in unprepared.notes[0]


def _picture(kind, path):
    """A picture file, and the RGB picture that a network shall see."""
    rng = np.random.default_rng(3)
    plain = Image.fromarray(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)).resize((181, 100))
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright: 90° clockwise to view
        plain.save(path, exif=exif)
        return plain.transpose(Image.Transpose.ROTATE_270)
    if kind == "transparent":
        plain.putalpha(Image.linear_gradient("L").resize(plain.size))
        plain.save(path)
        alpha = np.asarray(plain)[..., 3:] / 255
        return Image.fromarray(np.round(np.asarray(plain)[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))
    if kind == "16 bits":
        grey = np.asarray(plain.convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        return Image.fromarray(grey).convert("RGB")
    plain.save(path)
    return plain


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("run_torch.py", "turned"),
        ("run_torch.py", "16 bits"),
        ("run_onnx.py", "transparent"),
        ("run_onnx.py", "turned"),
        ("run_onnx.py", "16 bits"),
        ("pt2/run.py", "turned"),
    ],
)
def test_the_script_beside_an_export_answers_as_timms_own_transform(best, tmp_path, script, kind):
    answers_as_timm(best, script, _picture(kind, tmp_path / "picture.png"), tmp_path / "picture.png", CLASSES)


def answers_as_timm(folder, script, seen, file, classes):
    """Run a script of an export on a picture, without starsearch and timm."""
    code = (
        "import runpy, sys; sys.modules.update(starsearch=None, timm=None)\n"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = python("-I", "-c", code, folder / script, file)
    assert done.returncode == 0, done.stderr
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        probabilities = model(transform(seen)[None]).softmax(1)[0]
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [name for _, name in answers] == [classes[output] for output in probabilities.argsort(descending=True)[:5]]
    percents = [float(percent.rstrip("%")) for percent, _ in answers]
    assert percents == pytest.approx(sorted((100 * probabilities).tolist(), reverse=True)[:5], abs=0.2)


@pytest.mark.parametrize(
    ("script", "picture"), [("run_torch.py", "cut.png"), ("run_onnx.py", "cut.png"), ("pt2/run.py", "none.png")]
)
def test_the_script_says_in_a_line_that_a_picture_cannot_be_read(best, tmp_path, script, picture):
    _picture("plain", tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    done = python("-I", best / script, picture, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"error: {picture} cannot be read: ")


def test_an_architecture_is_exported_untrained_and_says_so(tmp_path):
    done = starsearch(
        *("export", TINY, "--format", "timm,onnx,onnx-int8", "--resolution", "40x56", "--data", "digits"),
        *("--no-pad", "--out", "best"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "The weights are random. Name trained ones with --weights." in done.stdout
    assert "top-1" not in done.stdout
    card = (tmp_path / "best" / "README.md").read_text(encoding="utf-8")
    assert "# Random weights, not trained" in card
    assert "top-1" not in card
    session = onnxruntime.InferenceSession(tmp_path / "best" / "model.onnx")
    assert session.get_inputs()[0].shape == [1, 3, 40, 56]
    assert session.get_outputs()[0].shape == [1, 10]  # the digits'
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == DIGITS
    for script in ("run_onnx.py", "run_torch.py"):
        seen = _picture("plain", tmp_path / "picture.png")
        answers_as_timm(tmp_path / "best", script, seen, tmp_path / "picture.png", DIGITS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["starnet_s9"], r"Nothing to export: There is no study folder .* Nor is it an architecture: .*starnet_s9"),
        ([TINY, "--knee"], "--knee chooses among the trials of a study"),
        ([TINY, "--format", "onnx-int8"], "calibrated on images: name a data set with --data"),
        ([TINY, "--dynamic-batch"], "--dynamic-batch is for ONNX files: add --format onnx or onnx-int8"),
        (["training"], "The training in training has no network yet: its first epoch has not ended"),
        (["training", "--weights", "x.pth"], "training has weights of its own; leave out --weights"),
        (["training", "--trial", "3"], "--trial chooses among the trials of a study"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_words(tmp_path, arguments, says):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "recipe.yaml").write_text("epochs: 1\n")
    done = starsearch("export", *arguments, "--out", "best", cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(says, " ".join(done.stderr.split())), done.stderr
    assert not (tmp_path / "best").exists()

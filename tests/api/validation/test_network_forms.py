"""One network is as good in every form it may be named or kept in."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from starsearch.api.exporting import export_networks
from starsearch.api.networks import resolve
from starsearch.api.training import run_training
from starsearch.api.training_job import plan_training
from starsearch.api.validation import validate
from starsearch.data import open_validation
from starsearch.data.preprocessing import Preprocessing, Validated
from starsearch.errors import EvaluationError, StudyError
from starsearch.training.weight_file import load_weights, save_weights
from tests.api.validation.judged import HERE, TINY, percent, timms_logits
from tests.data.imagenet_like import SYNSETS
from tests.export.networks import write


@pytest.mark.parametrize("form", ["own.safetensors", "exported", "model.onnx"])
def test_a_network_is_as_good_in_every_form_as_timms_loop_finds_it(folder, starnet, saved, form):
    expected, targets = timms_logits(starnet, folder)
    resolution = None if form == "model.onnx" else 64
    found = validate(str(saved / form), str(folder), resolution=resolution, batch_size=10, **HERE)
    assert found.top1_percent == pytest.approx(percent(expected, targets, 1), abs=1e-9)
    assert (found.num_images, found.resolution, found.crop_pct) == (36, 64, 0.875)


@pytest.mark.parametrize("file", ["published.pth.tar", "nested.pth", "plain.safetensors"])
def test_an_architecture_takes_the_weights_of_a_file(folder, starnet, saved, file):
    expected, targets = timms_logits(starnet, folder)
    found = validate(TINY, str(folder), weights=saved / file, resolution=64, **HERE)
    assert found.top1_percent == pytest.approx(percent(expected, targets, 1), abs=1e-9)


# torch's own exporter, not ours; the TorchScript one needs no further package, and says that it is old.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 4, None])
def test_onnx_answers_as_torch_whatever_its_batch(folder, starnet, tmp_path, batch):
    path = tmp_path / "model.onnx"
    dynamic = {} if batch else {"input": {0: "batch"}}
    example = torch.randn(batch or 2, 3, 64, 64)
    torch.onnx.export(starnet, example, path, input_names=["input"], dynamic_axes=dynamic, dynamo=False)
    classifier = resolve(str(path)).classifier()
    assert (classifier.num_outputs, classifier.fixed_resolution) == (3, 64)
    pixels = torch.randn(6, 3, 64, 64)
    with torch.inference_mode():
        expected = starnet(pixels)
    assert (classifier.logits(pixels) - expected).abs().max() < 1e-4 * expected.std()


def test_of_equal_logits_the_first_counts(tmp_path):  # an int8 file's are often equal
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 8, 8]), ("y", [1, 10]))
    ]
    values = {"weight": np.zeros((3, 10), np.float32), "bias": np.isin(np.arange(10), (3, 7)).astype(np.float32)}
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in values.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    found = validate(str(tmp_path / "m.onnx"), "digits", **HERE)
    assert found.top1_percent == pytest.approx(100 * np.mean(np.equal(open_validation("digits").validation.targets, 3)))


def test_a_file_of_weights_is_validated_as_its_training_did(folder, starnet, tmp_path):
    prepared = Preprocessing(resolution=48, crop_pct=0.95, mean=(0.4,) * 3, std=(0.3,) * 3, interpolation="bilinear")
    reverse = SYNSETS[::-1]  # by name, not by place
    write(starnet, "timm", tmp_path / "timm", preprocessing=prepared, class_names=reverse)
    file = tmp_path / "best.safetensors"
    save_weights(starnet, file, validated=Validated(preprocessing=prepared, classes=reverse))
    expected = validate(str(tmp_path / "timm"), str(folder), **HERE)
    found = validate(str(file), str(folder), **HERE)
    by_architecture = validate(TINY, str(folder), weights=file, **HERE)
    alike = {"network": expected.network, "images_per_second": expected.images_per_second}
    assert dataclasses.replace(found, **alike) == expected
    assert dataclasses.replace(by_architecture, **alike) == expected
    assert (found.resolution, found.crop_pct, found.interpolation) == (48, 0.95, "bilinear")
    assert "by name" in found.notes[0]
    assert validate(str(file), str(folder), resolution=64, crop_pct=1.0, **HERE).resolution == 64
    assert load_weights(file).num_classes == 3


@pytest.mark.parametrize("ended", [True, False])
def test_a_trainings_folder_is_as_good_as_its_log_says(tmp_path, ended):
    recipe = tmp_path / "short.yaml"
    recipe.write_text("{epochs: 2, batch_size: 64, lr: 2.0e-3, hflip: 0}")
    job = plan_training(TINY, data="digits", recipe=str(recipe), resolution=16, out=tmp_path / "out")
    trained = run_training(job)
    if not ended:
        shutil.rmtree(tmp_path / "out" / "timm")
        (tmp_path / "out" / "summary.json").unlink()
    assert trained.best_top1_percent > 20, "or the figures say nothing"
    export_networks(str(tmp_path / "out"), out=tmp_path / "best", formats=["timm", "onnx"], pad=False)
    card = (tmp_path / "best" / "README.md").read_text(encoding="utf-8")
    assert f"| top-1 | {trained.best_top1_percent:.2f} {'± ' if ended else '%'}" in card
    networks = ("out", "out/best.safetensors", "best", "best/model.onnx")
    for network in (tmp_path / name for name in networks):
        found = validate(str(network), "digits", **HERE)
        assert found.resolution == 16
        assert found.top1_percent == pytest.approx(trained.best_top1_percent, abs=0.3)  # one image of 360
        assert found.notes == ()


def test_weights_whose_metadata_say_nonsense_are_refused(starnet, tmp_path):
    save_file(starnet.state_dict(), tmp_path / "w.safetensors", {"preprocessing": "[1]", "class_names": "["})
    with pytest.raises(EvaluationError, match=r"w\.safetensors says in its metadata how it was validated, but not as"):
        validate(TINY, "digits", weights=tmp_path / "w.safetensors", **HERE)


@pytest.mark.slow  # runs a study first, on a worker of its own
def test_a_trial_is_as_good_as_its_exported_folder(finished, tmp_path):
    from starsearch.api.study import load_study

    study = str(finished / "studies" / "few")
    knee = load_study(study).view.knee
    export_networks(study, out=tmp_path / "best", trial=knee)
    of_trial = validate(f"{study}:{knee}", "digits", **HERE)
    of_folder = validate(str(tmp_path / "best"), "digits", **HERE)
    assert (of_trial.resolution, of_trial.crop_pct, of_trial.num_images) == (32, 1.0, 540)
    assert of_trial.mean == (0.5, 0.5, 0.5)
    assert of_trial.top1_percent == of_folder.top1_percent > 20
    (file,) = (finished / "studies" / "few").rglob(f"*-{knee}.safetensors")
    of_file = validate(str(file), "digits", **HERE)
    assert (of_file.top1_percent, of_file.resolution) == (of_trial.top1_percent, 32)
    with pytest.raises(StudyError, match="has no trial 99"):
        validate(f"{study}:99", "digits", **HERE)

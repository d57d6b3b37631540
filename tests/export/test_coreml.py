import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.formats import coreml, formats
from starsearch.export.formats.coreml import build_coreml, largest_activation, load_coremltools
from starsearch.families.layers import ACTIVATION_FUNCTIONS
from starsearch.families.network import build_model
from tests.export.networks import exportable, settled_model, write
from tests.strategies import architectures

coremltools = pytest.importorskip("coremltools", reason="needs the extra coreml")

SMALL = "starnet:embed_dim=8,depths=1-1-1"
MIXED = Preprocessing(resolution="32x48", mean=(0.1, 0.5, 0.9), std=(0.6, 0.2, 0.05))


def _operations(package):
    """The types of the package's operations, and its description."""
    spec = coremltools.utils.load_spec(str(package))
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return [op.type for op in block.operations if op.type != "const"], spec.description


@pytest.mark.parametrize("act_type", ACTIVATION_FUNCTIONS)
def test_every_activation_function_is_written_and_its_weights_read_back(act_type, tmp_path):
    model = settled_model(f"{SMALL},act_type={act_type},activation=one-both-post", num_classes=20)
    (note,) = write(model, "coreml-fp32", tmp_path, preprocessing=MIXED)
    num_weights = sum(p.numel() for name, p in model.named_parameters() if ".bn." not in name and "norm" not in name)
    assert note.startswith(f"model.fp32.mlpackage: read back: image, normalisation, labels and {num_weights + 6:,} wei")
    if sys.platform != "darwin":
        assert note.endswith("not run, which takes macOS.")


@given(architectures(max_depth=2), st.sampled_from((2, 10)), st.sampled_from((1, 2)))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_wide_architectures_are_written_with_the_models_weights(tmp_path, architecture, classes, stem_stride):
    torch.manual_seed(0)
    model = build_model(architecture, num_classes=classes, stem_stride=stem_stride).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    write(model, "coreml", tmp_path)


def test_no_batch_norm_is_left_and_the_branches_stay_two_convolutions(tmp_path):
    write(settled_model("starnet:embed_dim=8,depths=2-1"), "coreml", tmp_path)
    types, description = _operations(tmp_path / "model.mlpackage")
    assert types.count("conv") == 1 + 2 + 3 * 5
    assert types.count("mul") == 3 + 1  # the stars, and the std
    assert "batch_norm" not in types
    (image,), (logits,) = description.input, description.output
    assert (image.name, image.type.imageType.width, logits.name) == ("image", 32, "logits")
    assert logits.type.multiArrayType.dataType == 65568  # float32, which is what an app reads


def test_a_classifier_has_the_names_in_order_and_says_what_it_is(tmp_path):
    names = ("crane", "Möwe", "3", "a b", "é")
    model = settled_model(SMALL, num_classes=5)
    write(model, "coreml-fp32", tmp_path, class_names=names, origin={"trial": "7"})
    types, description = _operations(tmp_path / "model.fp32.mlpackage")
    assert types[-2:] == ["softmax", "classify"]
    assert description.predictedFeatureName == "classLabel"
    assert description.metadata.userDefined["trial"] == "7"
    with pytest.raises(ExportError, match=r"class labels is .*Möwe"):
        coreml.read_back(exportable(model, class_names=names[::-1]), tmp_path / "model.fp32.mlpackage", "fp32")


def test_a_package_for_timing_takes_and_gives_tensors():
    package = build_coreml(settled_model(SMALL), resolution=32, image_input=False)
    description = package.get_spec().description
    assert [one.type.WhichOneof("Type") for one in (*description.input, *description.output)] == ["multiArrayType"] * 2


@pytest.mark.parametrize(
    ("change", "facts", "says"),
    [
        (lambda model: model.head.bias.data.add_(0.5), {}, r"differs from the model at 'head\.bias'"),
        (lambda model: model.stages[1][1].f2.conv.weight.data.neg_(), {}, r"at 'stages\.1\.1\.f2\.weight'"),
        (None, {"preprocessing": replace(MIXED, resolution=32)}, "at 'mean'"),
        (None, {"preprocessing": Preprocessing(resolution=64)}, "image is .*32.*64"),
    ],
)
def test_a_package_of_another_network_is_told_from_the_model(change, facts, says, tmp_path):
    model = settled_model(SMALL, num_classes=5)
    write(model, "coreml-fp32", tmp_path)
    if change:
        change(model)
    with pytest.raises(ExportError, match=says):
        coreml.read_back(exportable(model, **facts), tmp_path / "model.fp32.mlpackage", "fp32")
    with pytest.raises(ExportError, match="differs from the model at"):
        coreml.read_back(exportable(model), tmp_path / "model.fp32.mlpackage", "fp16")


def test_a_damaged_package_is_refused(tmp_path):
    model = settled_model(SMALL)
    write(model, "coreml", tmp_path)
    (tmp_path / "model.mlpackage" / "Data/com.apple.CoreML/weights/weight.bin").write_bytes(b"")
    with pytest.raises(ExportError, match=r"cannot read model\.mlpackage back|differs from the model"):
        coreml.read_back(exportable(model), tmp_path / "model.mlpackage")


def _beyond(model):
    for branch in ("f1", "f2"):
        getattr(model.stages[0][1], branch).conv.bias.data.fill_(300.0)  # the star makes 90,000 of it


@pytest.mark.parametrize(
    ("change", "facts", "says"),
    [
        (_beyond, {}, r"reaches .* on random images and half precision ends at 65504.*coreml-fp32"),
        (lambda model: model.head.bias.data.fill_(1e5), {}, r"head reaches 1e\+05; half precision ends at 65504"),
        (lambda model: model.head.bias.data.fill_(np.nan), {}, "not finite: the training diverged"),
        (None, {"class_names": ("a", "b")}, "has 4 outputs; 2 class names"),
        (None, {"class_names": ("crane", "b", "crane", "c")}, "Two classes are named 'crane'"),
        (
            None,
            {"calibration": lambda: [np.full((1, 3, 32, 32), 1e6, np.float32)]},
            "on the study's calibration images and half precision ends",
        ),
    ],
)
def test_what_half_precision_or_core_ml_cannot_hold_is_refused_and_leaves_nothing(change, facts, says, tmp_path):
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    if change:
        change(model)
    with pytest.raises(ExportError, match=says):
        write(model, "coreml", tmp_path / "out", **facts)
    assert not list(tmp_path.glob("out/*"))
    if change is _beyond:
        (note,) = write(model, "coreml-fp32", tmp_path / "out")
        assert "half precision" not in note  # nothing that concerns this package


def test_activations_near_the_end_of_half_precision_are_told(tmp_path):
    model = settled_model(f"{SMALL},activation=none", num_classes=4)
    block = model.stages[-1][1]
    with torch.no_grad():
        block.f1.conv.bias.fill_(100.0)  # the star makes about 10,000 of it
        block.f2.conv.bias.fill_(100.0)
        block.g.conv.weight.zero_()
    (note,) = write(model, "coreml", tmp_path)
    assert "on random images and half precision ends at 65504: compare the package's accuracy" in note
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    stars = []
    block.g.register_forward_pre_hook(lambda _, inputs: stars.append(float(inputs[0].abs().max())))
    assert largest_activation(model, images) >= max(stars) > 4096


def test_a_conversion_prints_nothing(capfd):
    build_coreml(settled_model(SMALL), resolution=32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lacking", ["coremltools", "coremltools.libmilstoragepython"])
def test_without_coremltools_or_its_native_library_the_user_is_told_what_to_do(monkeypatch, lacking, tmp_path):
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(ExportError, match=r"needs coremltools .*pip install coremltools"):
        load_coremltools()
    with pytest.raises(ExportError, match="needs coremltools"):
        formats()["coreml"].check(tmp_path)

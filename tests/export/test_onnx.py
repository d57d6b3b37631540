import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from starsearch.errors import ExportError
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import check_onnx, deployed_copy, onnx_logits, relative_difference, torch_logits
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from tests.export.networks import settled_model, write
from tests.strategies import architectures

SMALL = "starnet:embed_dim=8,depths=1-1-1"


def _build(model, resolution=64, **options):
    layers = model.lower(resolution=resolution)
    return build_onnx(layers, state_dict_arrays(model), **options)


@given(architectures(), st.sampled_from((0, 2, 10)), st.sampled_from((1, 2)), st.integers(20, 40))
@settings(max_examples=30, deadline=None)
def test_random_architectures_compute_what_the_module_computes(architecture, num_classes, stem_stride, resolution):
    torch.manual_seed(0)
    model = build_model(architecture, num_classes=num_classes, stem_stride=stem_stride).train()
    with torch.no_grad():
        for _ in range(6):
            model(torch.randn(8, 3, resolution, resolution))
    onnx_bytes = _build(model, resolution)
    onnx.checker.check_model(onnx_bytes, full_check=True)
    images = np.random.default_rng(0).standard_normal((2, 3, resolution, resolution), dtype=np.float32)
    expected = torch_logits(deployed_copy(model), images)
    # Networks of a few channels on maps of one pixel have hardly any spread to compare with: hence not 1e-4.
    assert relative_difference(onnx_logits(onnx_bytes, images), expected, what="") < 1e-2


def test_a_file_of_a_dynamic_batch_takes_one_image_or_three(tmp_path):
    model = settled_model(SMALL, num_classes=7)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)
    write(model, "onnx", tmp_path, multiple=8, dynamic_batch=True)
    write(model, "onnx-int8", tmp_path, calibration=lambda: images[:, None], dynamic_batch=True)
    for name in ("model.onnx", "model.int8.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / name)
        at_once, alone = (session.run(None, {"input": batch})[0] for batch in (images, images[:1]))
        assert at_once.shape == (3, 7)
        assert np.allclose(at_once[:1], alone, atol=1e-5)
        assert not np.allclose(at_once[1:], alone, atol=1e-2)


def test_batch_norms_are_folded_and_branches_stay_two_convolutions():
    read = onnx.load_from_string(_build(settled_model("starnet:embed_dim=8,depths=2-1"), metadata={"trial": "7"}))
    assert {entry.key: entry.value for entry in read.metadata_props} == {"trial": "7"}
    graph = read.graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Conv") == 1 + 2 + 3 * 5
    assert operators.count("Mul") == 3
    assert set(operators) == {"Conv", "Clip", "Mul", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["logits"]


def test_a_missing_weight_and_one_of_another_network_are_named():
    model = settled_model(SMALL)
    layers = lower(model.architecture)
    weights = state_dict_arrays(model)
    with pytest.raises(ExportError, match=r"'stages.0.1.f1.conv.bias' of shape \(32,\); the weights given lack it"):
        build_onnx(layers, {key: array for key, array in weights.items() if key != "stages.0.1.f1.conv.bias"})
    with pytest.raises(ExportError, match=r"'head.weight' has shape \(10, 32\) .* have \(1000, 32\)"):
        build_onnx(lower(model.architecture, num_classes=10), weights)


@given(architectures(max_depth=3), st.integers(8, 64))
@settings(max_examples=25, deadline=None)
def test_random_weights_have_the_modules_keys_and_keep_activations_finite(architecture, resolution):
    layers = lower(architecture, resolution=resolution)
    weights = random_weights(layers, np.random.default_rng(0))
    state = {k: tuple(v.shape) for k, v in build_model(architecture).state_dict().items()}
    assert {key: array.shape for key, array in weights.items()} == {
        key: shape for key, shape in state.items() if not key.endswith("num_batches_tracked")
    }
    image = np.random.default_rng(1).standard_normal((1, 3, resolution, resolution), dtype=np.float32)
    logits = onnx_logits(build_onnx(layers, weights), image)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() < 1e3


def test_a_deep_star_without_activations_neither_overflows_nor_dies_out_with_random_weights():
    layers = lower(parse_architecture("starnet:embed_dim=16,depths=8-8-16-8,activation=none"), resolution=64)
    image = np.random.default_rng(1).standard_normal((1, 3, 64, 64), dtype=np.float32)
    logits = onnx_logits(build_onnx(layers, random_weights(layers, np.random.default_rng(0))), image)
    assert 0.01 < logits.std() < 100


def test_what_is_no_onnx_model_or_computes_nothing_finite_is_refused():
    model = settled_model(SMALL)
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        check_onnx(_build(model)[:-100], model, resolution=64)
    with pytest.raises(ExportError, match="ONNX Runtime cannot run"):
        onnx_logits(b"nothing", np.zeros((1, 3, 64, 64), np.float32))
    with torch.no_grad():
        model.head.bias[3] = float("nan")
    with pytest.raises(ExportError, match="differ from the trained model's by inf"):
        check_onnx(_build(model), model, resolution=64)

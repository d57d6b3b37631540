import re

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import numpy_helper

from starsearch.export.formats.onnx_int8 import build_int8_onnx, with_image_size
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import lower
from starsearch.families.text import parse_architecture
from tests.export.networks import settled_model, write
from tests.strategies import architectures

SMALL = "starnet:embed_dim=8,depths=1-1-1"
RESOLUTION = 32


def _layers(text, resolution=RESOLUTION, **options):
    return lower(parse_architecture(text), resolution=resolution, num_classes=10, **options)


def _images(number=8, resolution=RESOLUTION, seed=0):
    return np.random.default_rng(seed).standard_normal((number, 3, resolution, resolution), dtype=np.float32)


def _one_by_one(images):
    return [image[np.newaxis] for image in images]


def _quantized(text):
    layers = _layers(text)
    weights = random_weights(layers, np.random.default_rng(0))
    return build_int8_onnx(layers, weights, images=_one_by_one(_images()))


@given(architectures(max_stages=3, max_depth=1, max_width=12))
@settings(max_examples=8, deadline=None)
def test_random_architectures_compute_nearly_what_they_do_in_float(architecture):
    layers = lower(architecture, resolution=RESOLUTION, num_classes=10)
    weights, images = random_weights(layers, np.random.default_rng(0)), _images()
    found = onnx_logits(build_int8_onnx(layers, weights, images=_one_by_one(images)), images)
    expected = onnx_logits(build_onnx(layers, weights), images)
    # Each tensor is rounded to 1/255 of its range and each weight to 1/127 of its channel's.
    assert np.abs(found - expected).max() < 0.25 * np.ptp(expected)


def test_weights_have_seven_bits_and_a_scale_a_channel_and_activations_are_unsigned():
    graph = onnx.load_from_string(_quantized(SMALL)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = {name: array for name, array in constants.items() if array.dtype == np.int8 and array.ndim == 4}
    assert len(kernels) == 1 + 3 + 3 * 5
    for name, kernel in kernels.items():
        assert np.abs(kernel).max() <= 64
        assert constants[name.replace("_quantized", "_scale")].shape == (len(kernel),)
    makers = {output: node for node in graph.node for output in node.output}
    for conv in (node for node in graph.node if node.op_type == "Conv"):
        assert [makers[name].op_type for name in conv.input] == ["DequantizeLinear"] * 3
        assert constants[makers[conv.input[0]].input[2]].dtype == np.uint8


def test_an_activation_without_an_int8_kernel_stays_in_float_as_one_piece():
    graph = onnx.load_from_string(_quantized(f"{SMALL},act_type=gelu")).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    pieces = [node for node in graph.node if node.op_type == "Erf"]
    assert pieces
    assert all(makers[node.input[0]] == "Div" for node in pieces)


def test_the_same_network_of_another_image_size_has_the_same_weights():
    layers, deployed = _layers(SMALL, stem_stride=1), _layers(SMALL, 64)
    weights = random_weights(layers, np.random.default_rng(0))
    int8 = build_int8_onnx(layers, weights, images=_one_by_one(_images()))
    images = _images(resolution=64)
    found = onnx_logits(with_image_size(int8, resolution=64, stride=2), images)
    expected = onnx_logits(build_onnx(deployed, weights), images)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    assert onnx_logits(int8, _images()).shape == (8, 10)  # what was given stays


def test_the_exported_file_is_judged_and_says_what_it_is(tmp_path):
    model, images = settled_model(SMALL, resolution=RESOLUTION, num_classes=10), _images(16)
    facts = {"origin": {"trial": "7"}, "calibration": lambda: _one_by_one(images)}
    notes = write(model, "onnx-int8", tmp_path, judge=lambda graph: [f"{len(graph)} bytes"], **facts)
    written = (tmp_path / "model.int8.onnx").read_bytes()
    assert re.fullmatch(r"model\.int8\.onnx: \d+ bytes", notes[0])
    properties = {entry.key: entry.value for entry in onnx.load_from_string(written).metadata_props}
    assert properties.keys() == {"trial", "preprocessing", "class_names"}
    expected = onnx_logits(build_onnx(_layers(SMALL), state_dict_arrays(model)), images)
    assert np.corrcoef(onnx_logits(written, images).ravel(), expected.ravel())[0, 1] > 0.9

    def interrupted():
        yield from _one_by_one(images[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(model, "onnx-int8", tmp_path, calibration=interrupted)
    assert (tmp_path / "model.int8.onnx").read_bytes() == written
    assert {path.name for path in tmp_path.iterdir()} == {"model.int8.onnx", "run_onnx.py"}

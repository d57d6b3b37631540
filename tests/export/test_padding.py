import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits
from starsearch.export.weights import pad_weights, random_weights
from starsearch.families.family import lower
from starsearch.families.layers import ACTIVATION_FUNCTIONS, pad_channels
from starsearch.families.text import parse_architecture
from tests.strategies import architectures

RESOLUTION = 32


def _weights(layers):
    """Weights in which nothing is 0 or 1 that padding puts there."""
    rng = np.random.default_rng(0)
    weights = random_weights(layers, rng)
    for key, array in weights.items():
        if array.ndim == 1:
            array += rng.uniform(0.2, 0.5, array.shape).astype(np.float32)
        assert np.all(array != 0), key
    return weights


def _images(layers, number=3):
    return np.random.default_rng(1).standard_normal((number, *layers[0].in_shape), dtype=np.float32)


@given(architectures(), st.sampled_from((4, 8, 16)), st.sampled_from((0, 2, 10)), st.sampled_from((1, 2)))
@settings(max_examples=30, deadline=None)
def test_random_padded_networks_compute_the_same_logits(architecture, multiple, num_classes, stem_stride):
    layers = lower(architecture, resolution=RESOLUTION, num_classes=num_classes, stem_stride=stem_stride)
    weights, images = _weights(layers), _images(layers)
    padded = pad_channels(layers, multiple=multiple)
    expected = onnx_logits(build_onnx(layers, weights), images)
    found = onnx_logits(build_onnx(padded, pad_weights(layers, padded, weights)), images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()


def _all_maps(layers, weights, image):
    """What every layer of the network puts out, by name; nothing is optimised away."""
    model = onnx.load_from_string(build_onnx(layers, weights))
    names = [node.output[0] for node in model.graph.node]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name != "logits")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, {"input": image}), strict=True))


@pytest.mark.parametrize("act_type", ACTIVATION_FUNCTIONS)
def test_new_channels_are_exactly_zero_in_every_map(act_type):
    text = "starnet:embed_dim=9,depths=1-1-1-1,stem_width=10,ops=star-sum-star-sum,activation=one-both-post-none"
    layers = lower(parse_architecture(f"{text},act_type={act_type}"), resolution=RESOLUTION, num_classes=7)
    weights = _weights(layers)
    padded = pad_channels(layers, multiple=16)
    maps = _all_maps(padded, pad_weights(layers, padded, weights), _images(layers, 1))
    wider = [
        (plain, layer)
        for plain, layer in zip(layers, padded, strict=True)
        if layer.out_shape[0] > plain.out_shape[0] and layer.op != "norm"  # folded into the head
    ]
    assert len(wider) > 30
    for plain, layer in wider:
        values = maps[layer.name]
        assert not values[:, plain.out_shape[0] :].any(), layer.name
        assert values[:, : plain.out_shape[0]].any(), layer.name

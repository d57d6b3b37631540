"""What names no network, or none whose weights can be had, is refused with what would."""

import shutil

import pytest
import timm
import torch

from starsearch.api.networks import resolve
from starsearch.errors import ArchitectureError, EvaluationError, StudyError


@pytest.mark.parametrize(
    ("network", "error", "words"),
    [
        ("starnet_s1", EvaluationError, "published weights of starnet_s1 cannot be fetched: .*--weights"),
        ("starnet_s050", EvaluationError, "no published weights of starnet_s050: those of starnet_s1.*--weights"),
        ("timm:resnet18", EvaluationError, "resnet18 cannot be fetched: .*--weights"),
        ("timm:resnet1", EvaluationError, r"no model 'resnet1'\. Did you mean 'resnet"),
        ("nowhere.onnx", EvaluationError, r"There is no file 'nowhere\.onnx'"),
        ("nowhere.pth.tar", EvaluationError, r"There is no file 'nowhere\.pth\.tar'"),
        ("starnet_s9", ArchitectureError, "starnet_s9"),
        ("nowhere:3", StudyError, "no study folder"),
        ("{place}", EvaluationError, r"holds no network: neither config\.json, .* nor best\.safetensors"),
        ("{place}/damaged", EvaluationError, "timm cannot load the folder"),
        ("{place}/text.onnx", EvaluationError, "no ONNX file"),
        ("{saved}/nested.pth", EvaluationError, "does not say which network .*validate ARCHITECTURE --weights nested"),
    ],
)
def test_what_names_no_trained_network_is_refused_with_what_would(saved, tmp_path, network, error, words):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    (tmp_path / "text.onnx").write_text("nothing of the kind")
    with pytest.raises(error, match=words):
        resolve(network.format(place=tmp_path, saved=saved)).classifier()


@pytest.mark.parametrize(
    ("network", "weights", "words"),
    [
        ("starnet_s1", "{saved}/nested.pth", r"are of another network: (Missing key|size mismatch)"),
        ("timm:resnet18", "{saved}/nested.pth", r"are of another network: Missing key.* …"),
        ("starnet_s1", "{place}/nowhere.pth", "no weight file"),
        ("starnet_s1", "{place}/text.pth", r"text\.pth cannot be read as weights"),
        ("starnet_s1", "{place}/class.pth", r"class\.pth cannot be read as weights"),
        ("starnet_s1", "{place}/empty.pth", r"empty\.pth holds no weights"),
        ("{saved}/exported", "{saved}/nested.pth", "has weights of its own; leave out --weights"),
    ],
)
def test_weights_of_no_use_are_refused(saved, tmp_path, network, weights, words):
    (tmp_path / "text.pth").write_text("nothing of the kind")
    torch.save({"x": shutil.Error()}, tmp_path / "class.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    named = resolve(network.format(saved=saved))
    with pytest.raises(EvaluationError, match=words):
        named.classifier(weights=type(tmp_path)(weights.format(place=tmp_path, saved=saved)))


def test_timms_weights_of_a_published_network_load_by_file(tmp_path):
    model = timm.create_model("starnet_s050").eval()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    found, pixels = resolve("starnet_s050").classifier(weights=tmp_path / "model.pth"), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(found.logits(pixels), model(pixels), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "words"),
    [([1, 3, 8], "takes one input of images"), ([1, 3, 8, "width"], "of one size or of any"), ([1, 3, 8, 9], "gives")],
)
def test_an_onnx_file_that_is_no_classifier_is_refused(tmp_path, shape, words):
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "relu.onnx"
    )
    with pytest.raises(EvaluationError, match=words):
        resolve(str(tmp_path / "relu.onnx")).classifier()

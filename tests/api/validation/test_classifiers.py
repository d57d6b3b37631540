"""What names no network, or none whose weights can be had, is refused with what would."""

import pytest

from starsearch.api.classifiers import find_classifier
from starsearch.errors import ArchitectureError, EvaluationError, StudyError


def test_weights_that_cannot_be_fetched_are_named_with_where_they_are():
    with pytest.raises(EvaluationError) as raised:
        find_classifier("starnet_s1", weights=None, device="cpu")
    for words in (
        "published weights of starnet_s1 cannot be fetched",
        "huggingface.co/timm/starnet_s1.in1k/resolve/main/model.safetensors",
        "github.com/ma-xu/Rewrite-the-Stars/releases/download/checkpoints_v1/starnet_s1.pth.tar",
        "--weights",
    ):
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("starnet_s050", r"no published weights of starnet_s050: those of starnet_s1.*--weights"),
        ("timm:starnet_s050", r"published weights of starnet_s050 cannot be fetched: .*--weights"),
        ("timm:resnet18", r"resnet18 cannot be fetched: .*huggingface.co/timm/resnet18.*model\.safetensors.*--weights"),
        ("timm:resnet1", r"no model 'resnet1'\. Did you mean 'resnet"),
        ("nowhere.onnx", r"There is no file 'nowhere\.onnx'"),
        ("nowhere.pth.tar", r"There is no file 'nowhere\.pth\.tar'"),
    ],
)
def test_a_network_without_weights_is_refused(network, words):
    with pytest.raises(EvaluationError, match=words):
        find_classifier(network, weights=None, device="cpu")


def test_what_names_no_network_is_refused_with_the_rule(tmp_path):
    with pytest.raises(ArchitectureError, match="starnet_s9"):
        find_classifier("starnet_s9", weights=None, device="cpu")
    with pytest.raises(EvaluationError, match=r"holds no network: neither config\.json, .* nor best\.safetensors"):
        find_classifier(str(tmp_path), weights=None, device="cpu")
    with pytest.raises(StudyError, match="no study folder"):
        find_classifier("nowhere:3", weights=None, device="cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EvaluationError, match="timm cannot load the folder"):
        find_classifier(str(tmp_path), weights=None, device="cpu")


def test_an_onnx_file_that_is_no_classifier_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    for shape, words in (
        ([1, 3, 8], "takes one input of images"),
        ([1, 3, 8, 9], "square images"),
        ([1, 3, 8, 8], "gives"),
    ):
        node = helper.make_node("Relu", ["x"], ["y"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "relu.onnx")
        with pytest.raises(EvaluationError, match=words):
            find_classifier(str(tmp_path / "relu.onnx"), weights=None, device="cpu")
    (tmp_path / "text.onnx").write_text("nothing of the kind")
    with pytest.raises(EvaluationError, match="no ONNX file"):
        find_classifier(str(tmp_path / "text.onnx"), weights=None, device="cpu")

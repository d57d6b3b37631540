"""Architectures told from the weights of a file, and files whose weights are of no use."""

import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

from starsearch.api.classifiers import find_classifier
from starsearch.api.weight_files import infer_architecture, load_starnet
from starsearch.errors import EvaluationError
from starsearch.families.family import presets
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture


@pytest.mark.parametrize("name", presets())
def test_the_published_architectures_are_told_from_timms_weights(name):
    assert infer_architecture(timm.create_model(name).state_dict()) == presets()[name].canonical()


@pytest.mark.parametrize(
    "text",
    [
        "starnet:embed_dim=12,depths=1-0-2-1,mlp_ratio=2-4-3-5,kernel_size=3-7-5-7",
        "starnet:embed_dim=16,widths=16-24-40-64,depths=1-1-1-1,stem_width=16",
    ],
)
def test_other_widths_ratios_and_kernels_are_told_from_the_weights(text):
    architecture = parse_architecture(text)
    assert infer_architecture(build_model(architecture).state_dict()) == architecture.canonical()


def test_timms_weights_of_a_published_network_load_by_file(tmp_path):
    model = timm.create_model("starnet_s050")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded, pixels = load_starnet(tmp_path / "model.safetensors"), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(pixels), model.eval()(pixels))


def test_weights_of_another_network_say_what_differs(saved, tmp_path):
    with pytest.raises(EvaluationError, match=r"nested\.pth are of another network: .*\(8, .*in the file and \(24,"):
        find_classifier("starnet_s1", weights=saved / "nested.pth", device="cpu")
    with pytest.raises(EvaluationError, match=r"nested\.pth are of another network: the file lacks .* and \d+ more"):
        find_classifier("timm:resnet18", weights=saved / "nested.pth", device="cpu")
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(EvaluationError, match=r"not of a StarNet that can be told from them.*timm:NAME"):
        find_classifier(str(tmp_path / "resnet.pth"), weights=None, device="cpu")


@pytest.mark.parametrize("content", ["text", "no tensors", "a class"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("nothing of the kind")
    else:
        torch.save({"epoch": 3} if content == "no tensors" else {"x": shutil.Error()}, path)
    with pytest.raises(EvaluationError, match=r"weights\.pth (cannot be read as|holds no) weights"):
        find_classifier("starnet_s1", weights=path, device="cpu")


def test_a_missing_weight_file_and_one_too_many_are_refused(saved, tmp_path):
    with pytest.raises(EvaluationError, match="no weight file"):
        find_classifier("starnet_s1", weights=tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(EvaluationError, match="has weights of its own; leave out --weights"):
        find_classifier(str(saved / "exported"), weights=saved / "nested.pth", device="cpu")

"""One small network in every form, images of three of ImageNet's classes, and no hub."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from starsearch.data.preprocessing import Preprocessing
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.training.weight_file import save_weights
from tests.api.validation.judged import TINY, settled
from tests.data.imagenet_like import SYNSETS, write_folders
from tests.export.networks import write


@pytest.fixture(autouse=True, scope="package")
def _offline():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """36 validation images of three synsets, mixed sizes, grey and CMYK."""
    return write_folders(tmp_path_factory.mktemp("data") / "imagenet", train=(2, 2, 2), validation=(12, 12, 12))


@pytest.fixture(scope="package")
def starnet():
    torch.manual_seed(0)
    return settled(build_model(parse_architecture(TINY), num_classes=3))


@pytest.fixture(scope="package")
def saved(starnet, tmp_path_factory):
    """The same network in every form that lies in a file."""
    place = tmp_path_factory.mktemp("networks")
    save_weights(starnet, place / "own.safetensors")
    wrapped = {f"module.{key}": value for key, value in starnet.state_dict().items()}
    torch.save({"state_dict": wrapped, "args": argparse.Namespace(lr=1.0)}, place / "published.pth.tar")
    torch.save({"model": starnet.state_dict()}, place / "nested.pth")
    save_file(starnet.state_dict(), place / "plain.safetensors")
    write(starnet, "timm", place / "exported", class_names=SYNSETS)
    write(starnet, "onnx", place, preprocessing=Preprocessing(resolution=64))
    return place

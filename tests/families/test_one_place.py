"""What is added in one place: a family with an operation, a dimension of its blocks, an activation function."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from starsearch.data import open_data
from starsearch.export.onnx import WRITERS, build_onnx
from starsearch.export.verification import check_onnx
from starsearch.export.weights import random_weights, state_dict_arrays
from starsearch.families.family import FAMILIES, Architecture, count_params, lower
from starsearch.families.fields import ruled
from starsearch.families.layers import ACTIVATION_FUNCTIONS, OPS, Activation
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from starsearch.latency.prediction.terms import QUANTITIES, NetworkTerms
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.study.space_file import parse_space
from starsearch.training import train
from starsearch.yaml_file import parse_yaml
from tests.export.networks import settled_model
from tests.families.toy import ToyArchitecture, registered

TEXT = "toy:width=12,depths=2-1,kernel_size=5-3"


@pytest.fixture
def toy(monkeypatch):
    registered(monkeypatch)


def verify_export(model):
    layers = model.lower(resolution=32)
    check_onnx(build_onnx(layers, state_dict_arrays(model)), model, resolution=32)


def test_every_operation_has_a_row_in_each_table():
    assert WRITERS.keys() == OPS.keys()
    assert QUANTITIES.keys() >= OPS.keys() - {"conv"}, "convolutions have a row for each of their kinds"


@pytest.mark.usefixtures("toy")
def test_a_family_is_lowered_counted_built_exported_and_predicted():
    architecture = parse_architecture(TEXT)
    assert format_architecture(architecture) == TEXT
    assert parse_architecture("toy_large") == Architecture.of("toy", width=24)
    assert architecture_hash(architecture) != architecture_hash(parse_architecture("toy_large"))
    model = settled_model(TEXT, num_classes=5)
    assert count_params(architecture, num_classes=5) == sum(one.numel() for one in model.parameters())
    verify_export(model)
    terms = NetworkTerms.of(lower(architecture, resolution=32), vector_width=8)
    assert terms.layers["scale"] == 3
    assert terms.total["scale.fixed"] == 3


@pytest.mark.usefixtures("toy")
def test_a_family_is_searched_by_a_space_file_that_names_it():
    dimensions = "dimensions: {width: {low: 8, high: 16, step: 4}, depths: [{low: 0, high: 2}, 1]}"
    space = parse_space(parse_yaml(f"family: toy\n{dimensions}\nanchors: [toy_small]", Path("toy.yaml")))
    drawn = list(space.sample_architectures(5, seed=0))
    assert {type(one) for one in drawn} == {ToyArchitecture}
    assert all(space.decode_architecture(space.encode_architecture(one)) == one for one in drawn)
    assert space.anchors_inside() == {
        "toy_small": None,
        "toy_large": "its value of width is 24; the space has 8..16 step 4.",
    }


@pytest.mark.usefixtures("toy")
def test_a_family_is_trained_as_any_other():
    fidelity = Fidelity(resolution=16, samples=64, validation_samples=50)
    recipe = Recipe(epochs=1, batch_size=32, initialization="identity")
    training = train(parse_architecture(TEXT), data=open_data("digits"), recipe=recipe, fidelity=fidelity, seed=0)
    assert follow(training).model.architecture == parse_architecture(TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithShortcuts(ToyArchitecture):
    """The toy with one more dimension of its blocks: the field, and what it means in the layers."""

    family: ClassVar[str] = "shortcuts"
    shortcut: tuple[str, ...] = ruled(
        ("yes",) * 2, kind="choice", per_stage=True, of_blocks=True, choices=("yes", "no")
    )

    def add_block(self, layers, stage, name):
        ToyArchitecture.add_block(self, layers, stage, name)
        if self.shortcut[stage] == "no":
            layers.layers.pop()
            layers.last = f"{name}.scale"


@pytest.mark.usefixtures("toy")
def test_a_dimension_of_the_blocks_is_a_field_that_text_space_and_canonical_form_read(monkeypatch):
    monkeypatch.setitem(FAMILIES, "shortcuts", f"{__name__}:WithShortcuts")
    architecture = parse_architecture("shortcuts:width=8,depths=1-0,shortcut=no")
    assert format_architecture(architecture) == "shortcuts:width=8,depths=1-0,shortcut=no"
    assert architecture.shortcut == ("no", "yes"), "a stage without blocks has the default"
    assert "residual" not in {layer.op for layer in lower(architecture, resolution=32)}
    text = "family: shortcuts\ndimensions: {shortcut: {each: ['yes', 'no']}}"
    assert parse_space(parse_yaml(text, Path("s.yaml"))).num_architectures == 4
    layers = lower(architecture, resolution=32)
    build_onnx(layers, random_weights(layers, np.random.default_rng(0)))


def test_an_activation_function_is_a_row(monkeypatch):
    nodes = (("Softplus", "x"), ("Tanh", "-"), ("Mul", "x", "-"))
    monkeypatch.setitem(ACTIVATION_FUNCTIONS, "mish", Activation(torch="Mish", onnx=nodes))
    verify_export(settled_model("starnet:embed_dim=8,depths=1-1,act_type=mish", num_classes=5))
    space = "dimensions: {act_type: [relu, mish]}"
    assert parse_space(parse_yaml(space, Path("s.yaml"))).num_architectures == 2
    terms = NetworkTerms.of(lower(parse_architecture("starnet:depths=1,act_type=mish"), resolution=32), vector_width=8)
    assert terms.layers["mish_after_convolution"] == 2

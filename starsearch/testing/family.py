"""What every family of networks does."""

from __future__ import annotations

import pytest
import torch

from starsearch.export.onnx import build_onnx
from starsearch.export.verification import check_onnx
from starsearch.export.weights import state_dict_arrays
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import INPUT, layer_params, weight_shapes
from starsearch.families.network import Network, build_model
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from starsearch.latency.prediction.terms import layer_kinds

_RESOLUTION = 64
_NUM_CLASSES = 5


class FamilyContract:
    """A family's texts read back, and its layers and its module are the same network, which ONNX Runtime runs too."""

    texts: tuple[str, ...] = ()
    """Architectures of the family, one line each; override it with some that use every field."""

    @pytest.fixture
    def architectures(self) -> list[Architecture]:
        """The architectures of `texts`."""
        return [parse_architecture(text) for text in self.texts]

    @pytest.fixture
    def networks(self, architectures: list[Architecture]) -> list[Network]:
        """Their networks, with running statistics of some random images."""
        networks = []
        for architecture in architectures:
            torch.manual_seed(0)
            networks.append(build_model(architecture, num_classes=_NUM_CLASSES).train())
            networks[-1](torch.randn(8, 3, _RESOLUTION, _RESOLUTION))
        return [network.eval() for network in networks]

    def test_text_and_canonical_form_say_the_same_network(self, architectures: list[Architecture]) -> None:
        """Studies store networks by their texts and hashes."""
        for architecture in architectures:
            canonical = architecture.canonical()
            assert canonical == canonical.canonical() == parse_architecture(format_architecture(architecture))
            assert lower(canonical) == lower(architecture)
        assert len({architecture_hash(one) for one in architectures}) == len(set(self.texts))

    def test_every_layer_reads_the_shape_that_an_earlier_one_has(self, architectures: list[Architecture]) -> None:
        """Cost, latency and ONNX follow the list from its begin to its end, with a row per operation."""
        for layers in (lower(architecture, resolution=_RESOLUTION) for architecture in architectures):
            shapes = {INPUT: layers[0].in_shape}
            for layer in layers:
                assert layer.name not in shapes
                assert all(shapes[source] == layer.in_shape for source in layer.inputs)
                shapes[layer.name] = layer.out_shape
            assert layers[-1].out_shape == (1000, 1, 1)
            assert len(layer_kinds(layers)) == len(layers)

    def test_the_module_has_the_weights_that_the_layers_own(self, networks: list[Network]) -> None:
        """State-dict keys begin with the names of layers, and their parameters are counted alike."""
        for network in networks:
            layers = network.lower(resolution=_RESOLUTION)
            owned = {key: shape for layer in layers for key, shape in weight_shapes(layer).items()}
            assert {key: array.shape for key, array in state_dict_arrays(network).items()} == owned
            assert sum(map(layer_params, layers)) == sum(one.numel() for one in network.parameters())

    def test_module_and_layers_compute_the_same_logits(self, networks: list[Network]) -> None:
        """The ONNX file is built from the layers; ONNX Runtime's logits are the module's."""
        for network in networks:
            graph = build_onnx(network.lower(resolution=_RESOLUTION), state_dict_arrays(network))
            check_onnx(graph, network, resolution=_RESOLUTION)

    def test_the_quick_form_computes_the_same_logits(self, networks: list[Network]) -> None:
        """Training takes `quick_forward`."""
        images = torch.randn(2, 3, _RESOLUTION, _RESOLUTION)
        for network in networks:
            with torch.no_grad():
                torch.testing.assert_close(network.quick_forward()(images), network(images), rtol=1e-3, atol=1e-4)

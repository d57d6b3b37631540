import pytest
from hypothesis import given, settings

from starsearch.families.family import Architecture, count_macs, lower, presets
from starsearch.latency.terms import describe_network, layer_terms, sum_terms
from tests.strategies import architectures


def arithmetic(architecture, resolution, *, vector_width=1):
    network = describe_network(architecture, resolution=resolution, vector_width=vector_width)
    convolutions = sum(value for name, value in network.total.items() if name.endswith(".mmacs"))
    linear = network.total["linear.weight_mbytes"] / 4  # a multiply-add a weight of four bytes
    return 1e6 * (convolutions + linear)


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_the_terms_arithmetic_is_the_published_count_of_macs(architecture):
    assert arithmetic(architecture, 64) == pytest.approx(count_macs(architecture, resolution=64))


@pytest.mark.parametrize("name", sorted(presets()))
def test_published_networks_have_no_more_arithmetic_in_vectors_than_unaligned_channels_cost(name):
    network, aligned = presets()[name], presets()[name].stage_widths[0] % 16 == 0
    plain, rounded = (arithmetic(network, 224, vector_width=width) for width in (1, 16))
    assert rounded == pytest.approx(plain, rel=1e-3) if aligned else rounded > plain


@given(architectures())
@settings(max_examples=30, deadline=None)
def test_a_network_is_the_sum_of_its_layers(architecture):
    described = layer_terms(lower(architecture, resolution=64), vector_width=8)
    total = sum_terms(described).total
    for name in {name for layer in described for name in layer.terms}:
        assert total[name] == pytest.approx(sum(layer.terms.get(name, 0.0) for layer in described))
    assert total["network.fixed"] == 1


def kinds(**fields):
    network = describe_network(Architecture.of(**fields), resolution=64, vector_width=8)
    return dict(network.layers)


def test_layers_are_told_apart_as_a_runtime_runs_them():
    assert kinds(depths=(1, 0, 0, 0), activation="post") == {
        "image3": 1,
        "relu6_after_convolution": 1,
        "dense3": 4,
        "depthwise7": 2,
        "pointwise": 3,
        "star": 1,
        "relu6_after_map": 1,
        "residual": 1,
        "pool": 1,
        "linear": 1,
    }


def test_channels_that_are_no_multiple_of_four_are_another_kind():
    assert kinds(embed_dim=30, depths=(1, 0, 0, 0), ops="sum")["unblocked1"] == 3
    assert "unblocked1" not in kinds(embed_dim=28, depths=(1, 0, 0, 0))

import pytest
from hypothesis import given, settings

from starsearch.families.family import Architecture, count_macs, lower, presets
from starsearch.families.layers import OPS
from starsearch.families.starnet import StarNetArchitecture
from starsearch.latency.prediction.terms import QUANTITIES, NetworkTerms, layer_kinds
from tests.strategies import architectures


def arithmetic(architecture, resolution, *, vector_width=1):
    network = NetworkTerms.of(lower(architecture, resolution=resolution), vector_width=vector_width)
    convolutions = sum(value for name, value in network.total.items() if name.endswith(".mmacs"))
    linear = network.total["linear.weight_mbytes"] / 4  # a multiply-add a weight of four bytes
    return 1e6 * (convolutions + linear)


@given(architectures())
@settings(max_examples=60, deadline=None)
def test_the_terms_arithmetic_is_the_published_count_of_macs(architecture):
    assert arithmetic(architecture, 64) == pytest.approx(count_macs(architecture, resolution=64))


@pytest.mark.parametrize("name", StarNetArchitecture.published)
def test_published_networks_have_no_more_arithmetic_in_vectors_than_unaligned_channels_cost(name):
    network, aligned = presets()[name], presets()[name].stage_widths[0] % 16 == 0
    plain, rounded = (arithmetic(network, 224, vector_width=width) for width in (1, 16))
    assert rounded == pytest.approx(plain, rel=1e-3) if aligned else rounded > plain


@given(architectures())
@settings(max_examples=30, deadline=None)
def test_a_network_is_the_sum_of_its_layers(architecture):
    layers = lower(architecture, resolution=64)
    network = NetworkTerms.of(layers, vector_width=8)
    kinds = layer_kinds(layers)
    assert sum(network.layers.values()) == len([layer for layer in layers if QUANTITIES.get(layer.op, True)])
    for kind, terms in network.by_kind.items():
        assert network.layers[kind] == list(kinds.values()).count(kind)
        assert terms.items() <= network.total.items()
    assert network.total["network.fixed"] == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"activation": "post"},
            {"image3": 1, "relu6_after_convolution": 1, "dense3": 4, "depthwise7": 2, "pointwise": 3, "star": 1}
            | {"relu6_after_map": 1, "residual": 1, "pool": 1, "linear": 1},
        ),
        ({"embed_dim": 30, "ops": "sum", "activation": "none"}, {"unblocked1": 3, "unblocked3": 2, "sum": 1}),
    ],
)
def test_layers_are_told_apart_as_a_runtime_runs_them(fields, expected):
    network = NetworkTerms.of(lower(Architecture.of(depths=(1, 0, 0, 0), **fields), resolution=64), vector_width=8)
    assert expected.items() <= network.layers.items()


def test_every_operation_has_a_row_that_says_why_its_time_grows():
    for op in OPS:
        assert op == "conv" or op in QUANTITIES
    assert all(quantity.why for row in QUANTITIES.values() for quantity in row)

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from starsearch.families.family import Architecture, lower
from starsearch.families.fields import FIELDS
from starsearch.families.padding import pad_channels
from starsearch.families.text import parse_architecture
from tests.strategies import architectures

MULTIPLES = st.sampled_from((2, 4, 8, 16))


def _round_up(channels, multiple):
    return -(-channels // multiple) * multiple


def _rounded(architecture, multiple):
    """The architecture of the padded widths, made from its fields."""
    widths = tuple(_round_up(width, multiple) for width in architecture.stage_widths)
    hidden = [_round_up(architecture.hidden_width(stage), multiple) for stage in range(architecture.num_stages)]
    ratios = tuple(channels / width for channels, width in zip(hidden, widths, strict=True))
    assume(min(ratios) >= FIELDS["mlp_ratio"].low)  # 17 × 0.25 are 4 channels: of 18 they are 0.22
    return Architecture(
        depths=architecture.depths,
        ops=architecture.ops,
        activation=architecture.activation,
        act_type=architecture.act_type,
        kernel_size=architecture.kernel_size,
        widths=widths,
        mlp_ratio=ratios,
        stem_width=_round_up(architecture.stem_width, multiple),
    )


@given(architectures(), MULTIPLES)
def test_the_padded_layers_are_those_of_the_architecture_with_rounded_widths(architecture, multiple):
    if 1 in architecture.stage_widths:
        return  # a depthwise convolution of one channel looks like a dense one
    options = {"resolution": 32, "num_classes": 7, "in_chans": 3}
    padded = pad_channels(lower(architecture, **options), multiple=multiple)
    assert padded == lower(_rounded(architecture, multiple), **options)


@given(architectures(), MULTIPLES, st.sampled_from((0, 5)), st.sampled_from((1, 3)))
def test_image_classes_and_features_keep_their_channels_and_every_layer_reads_what_is_there(
    architecture, multiple, num_classes, in_chans
):
    layers = lower(architecture, resolution=32, num_classes=num_classes, in_chans=in_chans)
    padded = pad_channels(layers, multiple=multiple)
    assert padded[0].in_shape == layers[0].in_shape
    assert padded[-1].out_shape == layers[-1].out_shape
    shapes = {"input": padded[0].in_shape} | {layer.name: layer.out_shape for layer in padded}
    for layer, plain in zip(padded, layers, strict=True):
        assert all(shapes[source] == layer.in_shape for source in layer.inputs)
        assert layer.in_shape[0] % layer.groups == layer.out_shape[0] % layer.groups == 0
        assert layer.out_shape[0] in (plain.out_shape[0], _round_up(plain.out_shape[0], multiple))
    assert pad_channels(padded, multiple=multiple) == padded


def test_what_is_aligned_stays_as_it_is():
    layers = lower(parse_architecture("starnet_s1"))
    assert pad_channels(layers, multiple=8) == layers
    assert pad_channels(layers, multiple=1) == layers


def test_a_multiple_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        pad_channels(lower(Architecture.of()), multiple=0)

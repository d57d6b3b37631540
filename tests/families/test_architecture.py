"""Fields, canonical form, text, hash, counts and padding of architectures."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture, count_macs, count_params, lower, presets
from starsearch.families.fields import rules_of
from starsearch.families.layers import layer_macs, layer_params, pad_channels
from starsearch.families.starnet import StarNetArchitecture
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from tests.strategies import architectures

RULES = rules_of(StarNetArchitecture)
# Text, hash, parameters, and MACs of convolutions and head (fvcore's of timm's models, 224×224, 1000 classes).
PUBLISHED = {
    "starnet_s050": ("embed_dim=16,depths=1-1-3-1,mlp_ratio=3", "bfff368707dd", 542_728, 91_285_248),
    "starnet_s100": ("embed_dim=20,depths=1-2-4-1", "74e48589ff8c", 1_043_280, 185_626_176),
    "starnet_s150": ("embed_dim=24,depths=1-2-4-2,mlp_ratio=3", "a827cd56a6ff", 1_560_616, 227_376_384),
    "starnet_s1": ("embed_dim=24,depths=2-2-8-3", "9932dd9bb362", 2_869_168, 421_877_376),
    "starnet_s2": ("embed_dim=32,depths=1-2-6-2", "b777d741f1aa", 3_682_024, 544_113_664),
    "starnet_s3": ("embed_dim=32,depths=2-2-8-4", "09ccf3a515b4", 5_750_792, 753_999_872),
    "starnet_s4": ("embed_dim=32,depths=3-3-12-5", "af177715e9ec", 7_482_728, 1_049_561_600),
}
EVERY_FIELD = (
    "starnet:depths=1-0-2,ops=sum-star-star,activation=none-one-post,act_type=gelu,mlp_ratio=2.5-4-3,"
    "kernel_size=3-7-5,widths=16-40-48,stem_width=16"
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_keep_their_texts_hashes_and_counts_since_studies_are_keyed_by_them(name):
    text, digits, num_params, macs = PUBLISHED[name]
    architecture = presets()[name]
    assert parse_architecture(name) == parse_architecture(f"starnet:{text}") == architecture
    assert (format_architecture(architecture), architecture_hash(architecture)) == (f"starnet:{text}", digits)
    assert (count_params(architecture), count_macs(architecture)) == (num_params, macs)


def test_one_value_serves_all_stages_and_what_is_not_named_is_starnet_s1():
    architecture = Architecture.of(depths=(1, 2, 3), ops="sum", kernel_size=3, mlp_ratio=2)
    assert (architecture.ops, architecture.kernel_size, architecture.mlp_ratio) == (("sum",) * 3, (3,) * 3, (2,) * 3)
    assert Architecture.of() == StarNetArchitecture() == parse_architecture("starnet:") == presets()["starnet_s1"]
    assert parse_architecture(" starnet: ops=sum , ") == Architecture.of(ops="sum")


@given(architectures())
def test_the_canonical_form_is_the_same_network_its_own_canonical_form_and_what_the_text_says(architecture):
    canonical = architecture.canonical()
    assert lower(canonical) == lower(architecture)
    assert canonical.canonical() == canonical == parse_architecture(format_architecture(architecture))


@given(architectures(), architectures())
def test_equal_layers_canonical_forms_and_hashes_are_one_thing(first, second):
    same = first.canonical() == second.canonical()
    assert (lower(first) == lower(second)) == same == (architecture_hash(first) == architecture_hash(second))


@given(architectures(max_depth=3), st.data())
def test_what_a_stage_without_blocks_says_makes_no_difference(architecture, data):
    empty = [stage for stage, depth in enumerate(architecture.depths) if not depth]
    other = data.draw(architectures(max_stages=1))
    fields = {name: getattr(architecture, name) for name in RULES}
    for name, rule in RULES.items():
        if rule.of_blocks:
            fields[name] = tuple(
                getattr(other, name)[0] if stage in empty else value for stage, value in enumerate(fields[name])
            )
    assert StarNetArchitecture(**fields).canonical() == architecture.canonical()


def test_widths_that_double_are_said_by_embed_dim():
    assert Architecture.of(embed_dim=7, widths=(24, 48, 96, 192)).canonical() == Architecture.of()


def test_a_ratio_at_its_bound_stays_within_it_though_its_channels_are_rounded():
    # 0.25 × 9 = 2.25 are 2 channels, a ratio of 0.22.
    architecture = Architecture.of(embed_dim=9, depths=(1,), mlp_ratio=0.25).canonical()
    assert (architecture.mlp_ratio, architecture.hidden_width(0)) == ((0.25,), 2)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("starnet:embed_dim=16,depths=1-2-1-0,ops=sum,mlp_ratio=2", "44fe1e8ae5bf"),  # of a text that said 2-2-2-4
        (EVERY_FIELD, "15d460e7d386"),
    ],
)
def test_texts_and_their_hashes_never_change(text, digits):
    assert format_architecture(parse_architecture(text)) == text
    assert architecture_hash(parse_architecture(text)) == digits


@given(st.text(alphabet="starnet:=,-.0123456789_emb dimopsu", max_size=60))
def test_any_text_gives_an_architecture_or_our_error(text):
    with contextlib.suppress(ArchitectureError):
        assert isinstance(parse_architecture(text), Architecture)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mlp_ration": 4}, "Did you mean 'mlp_ratio'?"),
        ({"ops": "stars"}, "one of star, sum, max, gate; got 'stars'. Did you mean 'star'?"),
        ({"act_type": "silo"}, "Did you mean 'silu'?"),
        ({"embed_dim": 24.0}, "an integer; got 24.0"),
        ({"embed_dim": True}, "an integer; got True"),
        ({"embed_dim": 0}, "1..4096; got 0"),
        ({"embed_dim": 600}, "doubled over 4 stages gives 4800 channels"),
        ({"kernel_size": 4}, "odd, so that a map keeps its size; got 4"),
        ({"mlp_ratio": float("nan")}, "0.25..16; got nan"),
        ({"mlp_ratio": "4"}, "a number; got '4'"),
        ({"depths": (2, -1, 2, 2)}, "0..64; got -1"),
        ({"depths": ()}, "1 to 6 stages; got 0"),
        ({"depths": (1,) * 7}, "1 to 6 stages; got 7"),
        ({"ops": ("star", "sum")}, "ops has 2 values but depths has 4 stages"),
        ({"widths": (24, 48)}, "widths has 2 values but depths has 4 stages"),
        ({"family": "resnet"}, "Unknown family 'resnet'"),
        ("starnet_s5", "Unknown architecture 'starnet_s5'. Did you mean 'starnet_s"),
        ("resnet:depths=2-2", "Unknown family 'resnet'"),
        ("starnet:depth=2-2-2-2", "Did you mean 'depths'?"),
        ("starnet:embed_dim", "field=value; got 'embed_dim'"),
        ("starnet:embed_dim=24,embed_dim=32", "'embed_dim' is given twice"),
        ("starnet:embed_dim=wide", "an integer; got 'wide'"),
        ("starnet:embed_dim=²", "an integer; got '²'"),
        ("starnet:embed_dim=-4", "1..4096; got -4"),
        ("starnet:depths=2-2--2", "an integer; got ''"),
        ("starnet:ops=star-mul-star-star", "one of star, sum, max, gate; got 'mul'"),
        ("starnet:mlp_ratio=inf", "0.25..16; got inf"),
        ("starnet:family=starnet", "Unknown field 'family'"),
    ],
)
def test_a_wrong_field_or_text_is_named_with_its_rule(given, words):
    with pytest.raises(ArchitectureError) as error:
        parse_architecture(given) if isinstance(given, str) else Architecture.of(**given)
    assert words in str(error.value)


def test_a_resolution_below_one_pixel_is_refused():
    with pytest.raises(ArchitectureError, match="resolution is at least 1 pixel; got 0"):
        lower(Architecture.of(), resolution=0)
    with pytest.raises(ArchitectureError, match="resolution is at least 1 pixel; got 0"):
        count_macs(Architecture.of(), resolution=0)


def test_without_a_head_only_its_share_is_missing():
    architecture = Architecture.of()
    assert count_params(architecture) - count_params(architecture, num_classes=0) == 192 * 1000 + 1000
    assert count_macs(architecture) - count_macs(architecture, num_classes=0) == 192 * 1000


@given(architectures(max_depth=5))
def test_counts_are_the_sums_over_all_layers(architecture):
    layers = lower(architecture, resolution=97)
    assert count_macs(architecture, resolution=97) == sum(map(layer_macs, layers))
    assert count_params(architecture) == sum(map(layer_params, lower(architecture)))


MULTIPLES = st.sampled_from((2, 4, 8, 16))


def _round_up(channels, multiple):
    return -(-channels // multiple) * multiple


def _rounded(architecture, multiple):
    """The architecture of the padded widths, made from its fields."""
    widths = tuple(_round_up(width, multiple) for width in architecture.stage_widths)
    hidden = [_round_up(architecture.hidden_width(stage), multiple) for stage in range(architecture.num_stages)]
    ratios = tuple(channels / width for channels, width in zip(hidden, widths, strict=True))
    assume(min(ratios) >= RULES["mlp_ratio"].low)  # 17 × 0.25 are 4 channels: of 18 they are 0.22
    return replace(
        architecture, widths=widths, mlp_ratio=ratios, stem_width=_round_up(architecture.stem_width, multiple)
    )


@given(architectures(), MULTIPLES)
def test_the_padded_layers_are_those_of_the_architecture_with_rounded_widths(architecture, multiple):
    # A depthwise convolution of one channel looks like a dense one; one branch has 3/2 of the hidden channels.
    if 1 in architecture.stage_widths or "one" in architecture.branches:
        return
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


def test_what_is_aligned_stays_as_it_is_and_a_multiple_below_one_is_refused():
    layers = lower(Architecture.of())
    assert pad_channels(layers, multiple=8) == pad_channels(layers, multiple=1) == layers
    with pytest.raises(ValueError, match="at least 1; got 0"):
        pad_channels(layers, multiple=0)

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture, presets
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from tests.strategies import architectures


@given(architectures())
def test_the_text_reads_back_as_the_canonical_architecture(architecture):
    assert parse_architecture(format_architecture(architecture)) == architecture.canonical()


@given(architectures(), architectures())
def test_hashes_are_equal_exactly_where_the_networks_are(first, second):
    assert (architecture_hash(first) == architecture_hash(second)) == (first.canonical() == second.canonical())


@pytest.mark.parametrize(
    ("name", "text", "digits"),
    [
        ("starnet_s050", "starnet:embed_dim=16,depths=1-1-3-1,mlp_ratio=3", "bfff368707dd"),
        ("starnet_s100", "starnet:embed_dim=20,depths=1-2-4-1", "74e48589ff8c"),
        ("starnet_s150", "starnet:embed_dim=24,depths=1-2-4-2,mlp_ratio=3", "a827cd56a6ff"),
        ("starnet_s1", "starnet:embed_dim=24,depths=2-2-8-3", "9932dd9bb362"),
        ("starnet_s2", "starnet:embed_dim=32,depths=1-2-6-2", "b777d741f1aa"),
        ("starnet_s3", "starnet:embed_dim=32,depths=2-2-8-4", "09ccf3a515b4"),
        ("starnet_s4", "starnet:embed_dim=32,depths=3-3-12-5", "af177715e9ec"),
    ],
)
def test_texts_and_hashes_of_anchors_never_change_since_studies_are_keyed_by_them(name, text, digits):
    assert format_architecture(presets()[name]) == text
    assert architecture_hash(presets()[name]) == digits
    assert parse_architecture(name) == parse_architecture(text) == presets()[name]


def test_a_value_of_all_stages_with_blocks_is_written_once():
    text = "starnet:embed_dim=16,depths=1-2-1-0,ops=sum,mlp_ratio=2"
    assert format_architecture(parse_architecture(text)) == text
    assert architecture_hash(parse_architecture(text)) == "44fe1e8ae5bf"  # of the text before, which said 2-2-2-4


def test_the_hash_of_a_network_with_every_field_set_never_changes():
    text = (
        "starnet:depths=1-0-2,ops=sum-star-star,activation=none-one-post,act_type=gelu,mlp_ratio=2.5-4-3,"
        "kernel_size=3-7-5,widths=16-40-48,stem_width=16"
    )
    assert format_architecture(parse_architecture(text)) == text
    assert architecture_hash(parse_architecture(text)) == "15d460e7d386"


def test_what_the_text_does_not_name_is_starnet_s1():
    assert parse_architecture("starnet:") == Architecture.of()
    assert parse_architecture(" starnet: ops=sum , ") == Architecture.of(ops="sum")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("starnet_s5", "Unknown architecture 'starnet_s5'. Did you mean 'starnet_s"),
        ("resnet:depths=2-2", "Unknown family 'resnet'"),
        ("starnet:depth=2-2-2-2", "Unknown field 'depth' in 'starnet:depth=2-2-2-2'. Did you mean 'depths'?"),
        ("starnet:embed_dim", "Write field=value; got 'embed_dim'"),
        ("starnet:embed_dim=24,embed_dim=32", "Field 'embed_dim' stands twice"),
        ("starnet:embed_dim=wide", "embed_dim is an integer; got 'wide'."),
        ("starnet:embed_dim=²", "embed_dim is an integer; got '²'."),
        ("starnet:embed_dim=-4", "embed_dim lies in 1..4096; got -4."),
        ("starnet:depths=2-2--2", "depths is an integer; got ''."),
        ("starnet:ops=star-mul-star-star", "ops is one of star, sum; got 'mul'."),
        ("starnet:mlp_ratio=inf", "mlp_ratio lies in 0.25..16; got inf."),
        ("starnet:family=starnet", "Unknown field 'family'"),
    ],
)
def test_a_text_that_cannot_be_read_says_what_is_wrong_with_it(text, message):
    with pytest.raises(ArchitectureError) as error:
        parse_architecture(text)
    assert message in str(error.value)


@given(st.text(alphabet="starnet:=,-.0123456789_emb dimopsu", max_size=60))
def test_any_text_gives_an_architecture_or_our_error(text):
    with contextlib.suppress(ArchitectureError):
        assert isinstance(parse_architecture(text), Architecture)

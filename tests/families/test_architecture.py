import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture, lower, presets
from starsearch.families.fields import FIELDS
from tests.strategies import architectures


def test_the_default_architecture_is_starnet_s1():
    assert Architecture.of() == Architecture.of() == presets()["starnet_s1"]


def test_one_value_serves_all_stages():
    architecture = Architecture.of(depths=(1, 2, 3), ops="sum", kernel_size=3, mlp_ratio=2)
    assert architecture.ops == ("sum",) * 3
    assert architecture.kernel_size == (3, 3, 3)
    assert architecture.mlp_ratio == (2, 2, 2)


@given(architectures())
def test_the_canonical_form_is_the_same_network_and_its_own_canonical_form(architecture):
    canonical = architecture.canonical()
    assert lower(canonical) == lower(architecture)
    assert canonical.canonical() == canonical


@given(architectures(), architectures())
def test_networks_with_equal_layers_have_equal_canonical_forms(first, second):
    assert (lower(first) == lower(second)) == (first.canonical() == second.canonical())


@given(architectures(max_depth=3), st.data())
def test_what_a_stage_without_blocks_says_makes_no_difference(architecture, data):
    empty = [stage for stage, depth in enumerate(architecture.depths) if not depth]
    other = data.draw(architectures(max_stages=1))
    fields = {name: getattr(architecture, name) for name in FIELDS}
    for name, rule in FIELDS.items():
        if rule.of_blocks:
            fields[name] = tuple(
                getattr(other, name)[0] if stage in empty else value for stage, value in enumerate(fields[name])
            )
    assert Architecture(**fields).canonical() == architecture.canonical()


def test_widths_that_double_are_said_by_embed_dim():
    assert Architecture.of(embed_dim=7, widths=(24, 48, 96, 192)).canonical() == Architecture.of()


def test_a_ratio_at_its_bound_stays_within_it_though_its_channels_are_rounded():
    # 0.25 × 9 = 2.25 are 2 channels, a ratio of 0.22.
    architecture = Architecture.of(embed_dim=9, depths=(1,), mlp_ratio=0.25).canonical()
    assert architecture.mlp_ratio == (0.25,)
    assert architecture.hidden_width(0) == 2


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mlp_ration": 4}, "Unknown field 'mlp_ration'. Did you mean 'mlp_ratio'?"),
        ({"ops": "stars"}, "ops is one of star, sum; got 'stars'. Did you mean 'star'?"),
        ({"activation": "non"}, "activation is one of none, one, both, post; got 'non'. Did you mean 'none'?"),
        ({"act_type": "silo"}, "got 'silo'. Did you mean 'silu'?"),
        ({"embed_dim": 24.0}, "embed_dim is an integer; got 24.0."),
        ({"embed_dim": True}, "embed_dim is an integer; got True."),
        ({"embed_dim": 0}, "embed_dim lies in 1..4096; got 0."),
        ({"embed_dim": 600}, "embed_dim 600 doubled over 4 stages gives 4800 channels"),
        ({"kernel_size": 4}, "kernel_size is odd, so that a map keeps its size; got 4."),
        ({"mlp_ratio": float("nan")}, "mlp_ratio lies in 0.25..16; got nan."),
        ({"mlp_ratio": "4"}, "mlp_ratio is a number; got '4'."),
        ({"depths": (2, -1, 2, 2)}, "depths lies in 0..64; got -1."),
        ({"depths": ()}, "depths takes 1 to 6 stages; got 0."),
        ({"depths": (1,) * 7}, "depths takes 1 to 6 stages; got 7."),
        ({"ops": ("star", "sum")}, "ops has 2 values but depths has 4 stages."),
        ({"widths": (24, 48)}, "widths has 2 values but depths has 4 stages."),
        ({"family": "resnet"}, "family is one of starnet; got 'resnet'."),
    ],
)
def test_a_wrong_field_is_named_with_its_rule_and_the_nearest_known_value(values, text):
    with pytest.raises(ArchitectureError) as error:
        Architecture.of(**values)
    assert text in str(error.value)


def test_a_resolution_below_one_pixel_is_refused():
    with pytest.raises(ArchitectureError, match="resolution is at least 1 pixel; got 0"):
        lower(Architecture.of(), resolution=0)

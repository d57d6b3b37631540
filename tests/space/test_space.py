import random
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starsearch.candidate import Candidate
from starsearch.errors import SpecError
from starsearch.families.family import Architecture, count_macs, count_params, presets
from starsearch.families.text import parse_architecture
from starsearch.recipe import Recipe
from starsearch.space import SearchSpace
from starsearch.study.space_file import load_space, parse_space
from starsearch.yaml_file import parse_yaml

SPACES = Path(__file__).parents[2] / "spaces"


def _space(dimensions: str) -> SearchSpace:
    return parse_space(parse_yaml(f"dimensions: {{{dimensions}}}", Path("tiny.yaml")))


def _all_architectures(space: SearchSpace) -> list[Architecture]:
    names = [parameter.name for parameter in space.parameters]
    values = [parameter.values for parameter in space.parameters]
    return [space.decode_architecture(dict(zip(names, chosen, strict=True))) for chosen in product(*values)]


TINY = [
    "embed_dim: [16, 24], depths: [{low: 0, high: 1}, 1, {low: 0, high: 2}, 1], ops: {each: [star, sum]}",
    "depths: [{low: 0, high: 1}, {low: 0, high: 1}], activation: [none, one], kernel_size: {each: [3, 5]}",
    "depths: {choices: [[0, 1], [1, 0], [2, 2], [0, 0]]}, ops: {choices: [[star, sum], [star, star], [sum, sum]]}",
    "widths: [{low: 16, high: 24, step: 8}, [32, 48]], depths: [1, {low: 0, high: 1}], mlp_ratio: {each: [2, 2.5]}",
    "depths: {low: 0, high: 2}, act_type: [relu, gelu], stem_width: [16, 32], mlp_ratio: {low: 2, high: 4, step: 0.5}",
    "depths: [0, 0], ops: {each: [star, sum]}, embed_dim: 16",
    "depths: {stages: [1, [1, 3]]}, ops: {fixed: [sum, star]}",
]


@pytest.mark.parametrize("dimensions", TINY)
def test_a_space_holds_no_more_networks_than_it_counts_and_each_encodes_to_params_that_decode_to_it(dimensions):
    space = _space(dimensions)
    listed = _all_architectures(space)
    assert len(set(listed)) <= len(listed) == space.num_architectures
    for architecture in listed:
        assert space.decode_architecture(space.encode_architecture(architecture)) == architecture


@pytest.mark.parametrize("name", ["starnet", "starnet-wide"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_sample_lies_inside_satisfies_the_constraints_and_round_trips(name, seed):
    space = load_space(SPACES / f"{name}.yaml")
    candidate = space.decode(space.sample(random.Random(seed)), Recipe())
    assert space.why_outside(candidate.architecture) is None
    assert count_macs(candidate.architecture) <= 1.2e9
    assert space.decode(space.encode(candidate), Recipe()) == candidate


@pytest.mark.parametrize("name", ["starnet", "starnet-wide"])
def test_the_shipped_spaces_hold_the_published_networks(name):
    space = load_space(SPACES / f"{name}.yaml")
    for anchor in ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4"):
        assert anchor in space.anchors
        assert space.decode_architecture(space.encode_architecture(presets()[anchor])) == presets()[anchor]


def test_the_main_space_counts_as_the_product_of_its_ranges():
    # 9 widths, 4*4*11*6 depths, 2^4 operations, 4 placements, 5 ratios, 3 kernels
    assert load_space(SPACES / "starnet.yaml").num_architectures == 9 * 1056 * 16 * 4 * 5 * 3


def test_decode_leaves_unsearched_fields_at_the_published_model():
    assert _space("kernel_size: [3, 7]").decode_architecture({"kernel_size": 7}) == Architecture.of()


def test_an_architecture_outside_is_told_in_which_dimension():
    space = _space("embed_dim: [16, 24], depths: [1, 2, {low: 1, high: 8}, 3]")
    assert "stage 3 is 9" in str(space.why_outside(parse_architecture("starnet:depths=1-2-9-3")))
    assert "embed_dim is 32" in str(space.why_outside(parse_architecture("starnet:embed_dim=32,depths=1-2-8-3")))
    assert "kernel_size" in str(space.why_outside(parse_architecture("starnet:depths=1-2-8-3,kernel_size=5")))
    assert "3 stages" in str(space.why_outside(parse_architecture("starnet:depths=1-2-8")))
    assert space.why_outside(parse_architecture("starnet:depths=1-2-8-3")) is None


def test_constraints_bound_from_both_sides():
    text = "dimensions: {embed_dim: {low: 16, high: 32, step: 8}}\nconstraints: {num_params: {min: 2.0e6, max: 4.0e6}}"
    space = parse_space(parse_yaml(text, Path("f.yaml")))
    sizes = {width: count_params(Architecture.of(embed_dim=width)) for width in (16, 24, 32)}
    inside = [width for width, size in sizes.items() if 2e6 <= size <= 4e6]
    drawn = {space.decode_architecture(space.sample(random.Random(seed))).embed_dim for seed in range(30)}
    assert drawn == set(inside) != set(sizes)


def test_recipe_fields_are_decoded_and_encoded_with_the_architecture():
    from starsearch.space import FloatParameter

    space = SearchSpace(name="s", recipe_parameters=(FloatParameter(name="recipe.lr", low=1e-3, high=1e-2, log=True),))
    candidate = space.decode({"recipe.lr": 5e-3}, Recipe())
    assert candidate.recipe.lr == 5e-3
    assert space.encode(candidate) == {"recipe.lr": 5e-3}
    draws = [space.sample(random.Random(seed))["recipe.lr"] for seed in range(50)]
    assert all(1e-3 <= float(draw) <= 1e-2 for draw in draws)
    with pytest.raises(SpecError, match="outside the searched"):
        space.encode(Candidate(architecture=Architecture.of(), recipe=Recipe(lr=0.5)))

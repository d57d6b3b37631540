import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from starsearch.errors import SpecError
from starsearch.recipe import Fidelity
from starsearch.resolution import area, sides
from starsearch.resources import shipped_folder, shipped_names
from starsearch.study.recipe_file import load_recipe
from starsearch.study.space_file import load_space, parse_space
from starsearch.study.study_file import load_specs, load_study
from starsearch.yaml_file import parse_yaml
from tests.study.malformed import SPACE, SPACE_CHANGES, STUDY, STUDY_CHANGES


def _load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    load_study(str(path))


# Ten thousand networks are drawn before a band is given up.
_BAND = "{min: 500000000, max: 500000001}"


def test_at_least_forty_malformed_files_are_tried_and_the_unchanged_texts_are_valid(tmp_path):
    assert len(SPACE_CHANGES) + len(STUDY_CHANGES) >= 40
    _load(tmp_path, SPACE)
    _load(tmp_path, STUDY)


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        pytest.param(text, old, new, words, marks=[pytest.mark.slow] if new == _BAND else [])
        for text, changes in ((SPACE, SPACE_CHANGES), (STUDY, STUDY_CHANGES))
        for old, new, *words in changes
    ],
)
def test_a_malformed_file_is_refused_with_file_line_rule_and_value(tmp_path, text, old, new, words):
    assert old in text
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, text.replace(old, new, 1))
    for word in ("file.yaml", *words):
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", ("empty",)),
        (b"\xff\xfe\x00", ("UTF-8",)),
        (b"3", ("dimensions", "got 3")),
        (b"- a\n- b", ("dimensions",)),
        (b"family: starnet", ("'dimensions'", "family")),
        (b"dimensions: 3", ("line 1", "mapping", "3")),
        (b"dimensions: {depths: deep}", ("line 1", "depths")),
        (b"[" * 5000, ("nested",)),
        (b"a: &a [x]\nb: [*c]", ("not YAML",)),
        (b"x" * 1_000_001, ("1,000,001",)),
    ],
)
def test_what_is_no_space_at_all_is_refused_in_words(tmp_path, raw, words):
    path = tmp_path / "file.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError) as caught:
        load_study(str(path))
    for word in ("file.yaml", *words):
        assert word in str(caught.value), str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_in_words(tmp_path):
    with pytest.raises(SpecError, match=r"no file .*Shipped spaces: demonet, starnet"):
        load_study(str(tmp_path / "starnot.yaml"))
    with pytest.raises(SpecError, match="is a folder"):
        load_study(str(tmp_path))


def test_aliases_of_aliases_are_refused_before_they_grow(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    with pytest.raises(SpecError, match="more than"):
        parse_yaml("\n".join(lines), tmp_path / "file.yaml")


def test_a_space_with_another_familys_field_is_refused():
    text = "family: demonet\ndimensions:\n  width: [96, 128]\n  mlp_ratio: [3, 4]\n"
    with pytest.raises(SpecError, match=r"line 4.*'mlp_ratio'.*DemoNet has: width, depths"):
        parse_space(parse_yaml(text, Path("file.yaml")))


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["star", "sum", "none", "one", "low", "starnet_s1", "each"]),
)
_keys = st.one_of(
    st.sampled_from(["low", "high", "step", "log", "each", "stages", "choices", "fixed", "min", "max"]),
    st.text(max_size=5),
)
_trees = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_keys, inner, max_size=4)),
    max_leaves=12,
)
_fields = st.sampled_from(
    ["embed_dim", "depths", "ops", "activation", "mlp_ratio", "kernel_size", "widths", "act_type", "stem_width", "x"]
)


@settings(max_examples=300, deadline=None)
@example({"depths": {"choices": 5}}, None, None)
@example({"depths": {"choices": {"a": 1}}}, None, None)
@example({"widths": {"stages": 0}, "depths": {"fixed": []}}, None, None)
@given(st.dictionaries(_fields, _trees, max_size=4), _trees, _trees)
def test_any_tree_is_a_space_or_a_spec_error_and_nothing_else(dimensions, constraints, anchors):
    text = yaml.safe_dump({"dimensions": dimensions, "constraints": constraints, "anchors": anchors})
    with contextlib.suppress(SpecError):
        parse_space(parse_yaml(text, Path("file.yaml")))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_spec_error(text):
    with contextlib.suppress(SpecError):
        parse_space(parse_yaml(text, Path("file.yaml")))


def test_decimal_numbers_are_read_as_yaml_1_2_reads_them_and_all_else_is_text():
    read = parse_yaml("[1e-3, 1.2e9, 5E+2, .5, 7, -3, 1:30, 0x96, 1_000, 2026-01-02, none, '1e3']", Path("f")).data
    assert read == [1e-3, 1.2e9, 500.0, 0.5, 7, -3, "1:30", "0x96", 1000, "2026-01-02", "none", "1e3"]


@pytest.mark.parametrize("name", shipped_names("spaces"))
def test_every_shipped_space_loads_by_name(name):
    assert load_space(shipped_folder("spaces") / f"{name}.yaml").anchors
    assert load_study(name).data == "digits"


@pytest.mark.parametrize("name", shipped_names("recipes"))
def test_every_shipped_recipe_loads_by_name(name):
    assert load_recipe(name).epochs >= 1


def test_a_study_overrides_the_defaults_and_searches_recipe_fields(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    spec = load_study(str(path), trials=7)
    assert spec.name == tmp_path.name
    assert (spec.trials, spec.seed, spec.sampler) == (7, 3, "tpe")
    assert [p.name for p in spec.space.recipe_parameters] == ["recipe.lr", "recipe.drop_path"]
    assert spec.recipe.weight_decay == 0.1
    assert spec.fidelity.samples == 10_000
    assert spec.constraints[0].high == 15
    assert spec.space.anchors == ("starnet_s050", "starnet_s4")


def test_a_fidelity_that_is_listed_says_everything_itself(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "space: starnet\ndata: digits\nfidelities: [{name: full, resolution: 224, recipe: starnet-imagenet}]"
    )
    spec = load_study(str(path))
    assert (spec.fidelity.epochs, spec.fidelity.samples, spec.recipe.epochs) == (None, None, 300)


@pytest.mark.parametrize("said", [None, 32, "32x53", "53x32", 96], ids=str)
def test_each_candidate_is_trained_in_the_shape_in_which_it_is_deployed(said):
    """The list is that of the space file's documentation; the shares of the pixels are nearly one."""
    space = {"dimensions": {"embed_dim": [16, 24], "resolution": [128, 192, 224, "192x320"]}}
    settings = [] if said is None else [f"fidelities.0.resolution={said}"]
    (spec,) = load_specs(space, settings=settings)
    pixels = 32 * 53 if said is None else area(said)
    assert spec.fidelity == spec.fidelity.shaped("192x320"), "what is told is what is trained"
    for deployed in (128, 192, 224, "192x320"):
        height, width = sides(spec.fidelity.scaled(deployed, spec.space.resolution).resolution)
        high, wide = sides(deployed)
        assert abs(width - height * wide / high) < 1, deployed
        assert height * width / (high * wide) == pytest.approx(pixels / (192 * 320), rel=0.07), deployed


def test_the_shares_of_squares_are_those_of_their_sides():
    assert Fidelity(resolution="32x64").scaled(224, 224).resolution == "32x64", "nothing is scaled"
    for own, deployed, of in itertools.product(range(8, 100, 7), (32, 63, 64, 160, 224), (32, 96, 224, 225)):
        found = Fidelity(resolution=own).scaled(deployed, of).resolution
        assert found == max(8, round(own * deployed / of)), "so that what was recorded is trained and exported alike"


def test_epochs_are_said_in_one_place(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("space: starnet\nrecipe: {epochs: 20}")
    with pytest.raises(SpecError, match=r"line 2, recipe.epochs: the fidelity 'proxy' sets the epochs"):
        load_study(str(path))


def test_a_pair_is_a_value_and_equal_choices_are_one(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("space: starnet\nrecipe: {crop_scale: [0.2, 1.0], drop_path: [0, 0.1]}")
    spec = load_study(str(path))
    assert spec.recipe.crop_scale == (0.2, 1.0)
    assert [repr(choice) for choice in spec.space.recipe_parameters[0].choices] == ["0.0", "0.1"]
    path.write_text("space: starnet\nrecipe: {drop_path: [0, 0.0]}")
    with pytest.raises(SpecError, match=r"stands twice|same drop_path"):
        load_study(str(path))


def test_data_beside_the_study_file_is_meant_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "here" / "pictures").mkdir(parents=True)
    (tmp_path / "here" / "study.yaml").write_text("space: starnet\ndata: pictures")
    monkeypatch.chdir(tmp_path)
    assert load_study("here/study.yaml").data == str(Path("here") / "pictures")
    (tmp_path / "here" / "study.yaml").write_text("space: starnet\ndata: pictures?classes=outermost")
    assert load_study("here/study.yaml").data == str(Path("here") / "pictures?classes=outermost")


def test_whole_shapes_are_a_choice_that_constraints_can_leave_one_of(tmp_path):
    text = "dimensions: {depths: {choices: [[3, 3, 12, 5], [1, 2, 4, 1]]}}\nconstraints: {macs: {max: 4.0e8}}"
    space = parse_space(parse_yaml(text, tmp_path / "f.yaml"))
    assert {a.depths for a in space.sample_architectures(2, seed=0)} == {(1, 2, 4, 1)}


def test_a_recipe_outside_its_searched_range_is_refused_because_anchors_are_trained_by_it(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("{low: 1e-3, high: 1e-2, log: true}", "{low: 0.5, high: 0.9}"))
    with pytest.raises(SpecError, match=r"lr is .*outside the searched 0.5\.\.0.9"):
        load_study(str(path))


def test_anchors_whose_recipes_are_searched(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("[starnet_s050, starnet_s4]", "{names: [starnet_s4], recipe: searched, trials: 3}"))
    spec = load_study(str(path))
    assert (spec.space.anchors, spec.anchor_recipes, spec.num_anchor_trials) == (("starnet_s4",), 3, 4)
    assert load_study(str(path), settings=["anchors.recipe=base"]).anchor_recipes == 0
    with pytest.raises(SpecError, match="nothing of the recipe is searched"):
        load_study(str(path), settings=["recipe={}"])
    twice = "fidelities=[{name: a}, {name: b, promote: 2}]"
    with pytest.raises(SpecError, match="in a study of one fidelity"):
        load_study(str(path), settings=[twice])


def test_every_key_of_a_study_and_of_the_space_is_set_on_a_space_file():
    settings = [
        "search.trials=3", "search.sampler=random", "fidelities.proxy.epochs=1", "recipe.lr={low: 1e-3, high: 1e-2}",
        "objectives.macs=minimize", "constraints.latency_ms.max=5", "constraints.macs.max=1.1e9",
        "anchors=[starnet_s2]", "dimensions.mlp_ratio=[3, 4]", "recipe.batch_size=32",
    ]  # fmt: skip
    plain, spec = load_study("starnet"), load_study("starnet", settings=settings)
    assert (spec.trials, spec.sampler, spec.fidelity) == (3, "random", replace(plain.fidelity, epochs=1))
    assert [parameter.name for parameter in spec.space.recipe_parameters] == ["recipe.lr"]
    assert [one.name for one in spec.objectives] == ["top1_percent", "latency_ms", "macs"]
    assert [(one.name, one.high) for one in (*spec.constraints, *spec.space.constraints)] == [
        ("latency_ms", 5), ("macs", 1.1e9),
    ]  # fmt: skip
    assert (spec.name, spec.space.name, spec.space.anchors) == ("starnet", "starnet", ("starnet_s2",))
    assert spec.recipe == replace(plain.recipe, batch_size=32)
    assert "3, 4" in spec.space.describe()["space.dimensions.mlp_ratio"]
    on_files = load_study("starnet", data="photos", settings=["fidelities.proxy.epochs=1"])
    assert on_files.fidelity == replace(load_study("starnet", data="photos").fidelity, epochs=1)
    with pytest.raises(SpecError, match=r"^--set search.trails=3: unknown key 'trails'\. Did you mean 'trials'"):
        load_study("starnet", settings=["search.trails=3"])

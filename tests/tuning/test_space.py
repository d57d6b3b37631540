"""Recipe-space files, and the recipe file that a search leaves behind."""

from dataclasses import replace

import pytest

from starsearch.errors import SpecError
from starsearch.recipe import Recipe
from starsearch.study.recipe_file import load_recipe
from starsearch.tuning.space import (
    CHANGEABLE,
    describe_changes,
    encode_recipe,
    load_recipe_space,
    searched_fields,
    write_recipe,
)
from tests.study.recipes import recipes


def load(tmp_path, text, *, base=None, **options):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_recipe_space(str(path), base or Recipe(), **options)


@pytest.mark.parametrize("recipe", ["proxy", "digits", "starnet-imagenet", "starnet-imagenet-readme"])
@pytest.mark.parametrize("name", ["recipe", "recipe-pbt"])
def test_every_shipped_recipe_lies_in_the_shipped_spaces(recipe, name):
    base, space = load_recipe_space(name, load_recipe(recipe), changing=name == "recipe-pbt")
    assert space.decode(encode_recipe(space, base), base).recipe == base
    assert {"lr", "weight_decay", "drop_path", "auto_augment", "mixup", "smoothing"} <= set(searched_fields(space))


def test_none_is_a_choice_where_the_field_may_be_none(tmp_path):
    base, space = load(tmp_path, "recipe: {ema_decay: [null, 0.99], auto_augment: [rand-m3-mstd0.5-inc1, null]}")
    assert space.recipe_parameters[0].choices == (None, 0.99)
    params = {"recipe.ema_decay": 0.99, "recipe.auto_augment": "rand-m3-mstd0.5-inc1"}
    assert space.decode(params, base).recipe == replace(base, ema_decay=0.99, auto_augment="rand-m3-mstd0.5-inc1")
    assert space.corner(largest=True)["recipe.ema_decay"] == 0.99
    with pytest.raises(SpecError, match="valid number; got None"):
        load(tmp_path, "recipe: {lr: [null, 0.002]}")


def test_plain_values_stand_in_place_of_the_base_recipes(tmp_path):
    base, space = load(tmp_path, "recipe: {optimizer: sgd, mixup: {low: 0, high: 1}}")
    assert base == replace(Recipe(), optimizer="sgd")
    assert searched_fields(space) == ("mixup",)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("recipe:\n  lrr: {low: 1, high: 2}\n", {}, ["line 2", "'lrr'", "Did you mean 'lr'"]),
        ("recipe:\n  smoothing: {low: 0, high: 1.5}\n", {}, ["line 2", "smoothing", "less than 1", "1.5"]),
        ("recipe: {lr: {low: 0.01, high: 0.001}}", {}, ["low is at most high"]),
        ("recipe: {epochs: [3, 5]}", {}, ["epochs", "--epochs", "Leave it out"]),
        ("recipe: {lr: 0.001}", {}, ["nothing is searched"]),
        ("dimensions: {embed_dim: [8, 16]}", {}, ["one key 'recipe'", "got dimensions"]),
        ("recipe: {lr: {low: 0.1, high: 0.2}}", {}, ["lr is 0.002, outside", "widen the range", "--recipe"]),
        ("recipe: {ema_decay: [null, 0.9]}", {"changing": True}, ["ema_decay cannot change in the middle", "lr"]),
        ("recipe: {batch_size: [64, 128]}", {"changing": True}, ["batch_size cannot change in the middle"]),
        ("recipe: {initialization: [timm, official]}", {"changing": True}, ["initialization cannot change"]),
    ],
)
def test_what_breaks_a_rule_is_told_with_the_rule(tmp_path, text, options, words):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text, **options)
    for word in words:
        assert word in str(caught.value)


def test_what_population_based_training_may_change_are_fields_of_a_recipe():
    assert set(Recipe.__slots__) >= CHANGEABLE


@pytest.mark.parametrize("base", [Recipe(), replace(Recipe(), epochs=300, mixup=0.8, crop="none")])
@pytest.mark.parametrize("recipe", recipes())
def test_a_written_recipe_is_read_as_what_it_was_whatever_its_base(tmp_path, recipe, base):
    path = tmp_path / "best.yaml"
    write_recipe(path, recipe, base=base, comments=["The best of 7 trials."])
    assert load_recipe(str(path)) == recipe
    assert path.read_text().startswith("# The best of 7 trials.\n")


def test_changes_are_told_in_the_recipes_own_words():
    recipe = replace(Recipe(), lr=0.0031234, ema_decay=0.9998, mixup=0.2)
    assert describe_changes(recipe, Recipe()) == "lr 0.0031234, mixup 0.2, ema_decay 0.9998"
    assert describe_changes(Recipe(), recipe) == "lr 0.002, mixup 0, ema_decay none"
    assert describe_changes(Recipe(), Recipe()) == "the base recipe"

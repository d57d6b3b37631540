"""Recipe-space files: which fields of a training recipe `starsearch tune` searches; and the recipe that it found."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starsearch.candidate import Candidate
from starsearch.errors import SpecError
from starsearch.files import written_whole
from starsearch.recipe import Recipe, changed_fields, value_text
from starsearch.resources import find_file
from starsearch.space import SearchSpace
from starsearch.space.space import RECIPE_PREFIX
from starsearch.study.recipe_file import RecipeChanges, change_recipe
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import YamlFile, read_yaml

# What decides how long a training is: of another length it is another fidelity, not another recipe.
_LENGTH = ("epochs", "cooldown_epochs")
# What Population Based Training may change between two epochs. The rest shapes the schedule, the optimiser's state or
# the moving average from the first step on.
CHANGEABLE = frozenset({
    "lr", "min_lr", "weight_decay", "clip_grad", "smoothing", "mixup", "cutmix", "mixup_prob", "mixup_switch_prob",
    "auto_augment", "random_erasing", "hflip", "crop", "color_jitter", "drop_path", "drop_rate",
})  # fmt: skip
# The anchor of a recipe search: the base recipe, which is always tried and stands in every table.
BASE_RECIPE = "base recipe"


def load_recipe_space(text: str, base: Recipe, *, changing: bool = False) -> tuple[Recipe, SearchSpace]:
    """Return the base recipe with the file's plain values, and the space of its searched fields, in which it lies.

    Where they are `changing` in the middle of a training, fields that cannot are refused.
    """
    file = read_yaml(find_file(text, "recipe spaces"))
    if not isinstance(file.data, dict) or set(file.data) != {"recipe"}:
        came = ", ".join(str(key) for key in file.data) if isinstance(file.data, dict) else shorten(file.data)
        raise file.error((), f"a recipe space has the one key 'recipe', a mapping of recipe fields; got {came}.")
    named = file.data["recipe"]
    _refuse_fields(file, named, _LENGTH, "says how long a training is, which is --epochs of `starsearch tune`")
    recipe, parameters = change_recipe(file, validate(RecipeChanges, named, file=file, at=("recipe",)), base)
    if not parameters:
        raise file.error(("recipe",), "nothing is searched: give a field a range {low, high} or a list of choices.")
    space = SearchSpace(name=file.path.stem, recipe_parameters=parameters)
    if changing:
        fixed = [name for name in searched_fields(space) if name not in CHANGEABLE]
        _refuse_fields(
            file,
            named,
            fixed,
            "cannot change in the middle of a training, as Population Based Training does; "
            f"it may change {', '.join(sorted(CHANGEABLE))}",
        )
    _check_base_inside(file, space, recipe)
    return recipe, space


def searched_fields(space: SearchSpace) -> tuple[str, ...]:
    """The names of the recipe's fields that `space` searches."""
    return tuple(parameter.name.removeprefix(RECIPE_PREFIX) for parameter in space.recipe_parameters)


def encode_recipe(space: SearchSpace, recipe: Recipe) -> dict[str, Any]:
    """Return the params that stand for `recipe`."""
    return space.encode(Candidate(architecture=space.decode_architecture({}), recipe=recipe))


def write_recipe(path: Path, recipe: Recipe, *, base: Recipe, comments: Sequence[str]) -> None:
    """Write a recipe file that `load_recipe` reads as `recipe`.

    It names the fields that differ from `base`, and those in which both differ from the default, without which the file
    would mean another recipe.
    """
    found = changed_fields(recipe, base)
    inherited = {name: value for name, value in changed_fields(recipe, Recipe()).items() if name not in found}
    lines = [*(f"# {line}" for line in comments), *_yaml_lines(found)]
    if inherited:
        lines += ["# As in the base recipe:", *_yaml_lines(inherited)]
    elif not found:  # an empty file is no recipe
        lines.append(f"epochs: {recipe.epochs}")
    advice = "The trials are safe in the study's storage; make room and run the same command again."
    with written_whole(path, "the best recipe", advice=advice) as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _yaml_lines(values: Mapping[str, Any]) -> list[str]:
    """A line a field; JSON is YAML, and spells null, numbers and texts so that they are read as they were."""
    return [f"{name}: {json.dumps(value)}" for name, value in values.items()]


def _refuse_fields(file: YamlFile, named: Any, fields: Collection[str], why: str) -> None:
    found = [str(name) for name in named if name in fields] if isinstance(named, dict) else []
    if found:
        raise file.error(("recipe", found[0]), f"{found[0]} {why}. Leave it out.")


def _check_base_inside(file: YamlFile, space: SearchSpace, recipe: Recipe) -> None:
    """The base recipe is the first trial, with which the best is compared."""
    for parameter in space.recipe_parameters:
        name = parameter.name.removeprefix(RECIPE_PREFIX)
        one = replace(space, recipe_parameters=(parameter,))
        try:
            encode_recipe(one, recipe)
        except SpecError as error:
            said = str(error).partition(" Anchors ")[0]
            raise file.error(
                ("recipe", name),
                f"{said} The base recipe is the first trial: widen the range, or give another --recipe.",
            ) from None


def describe_changes(recipe: Recipe, base: Recipe) -> str:
    """What differs from `base` in words: "lr 0.0031, mixup 0.2"; "the base recipe" where nothing does."""
    texts = [f"{name} {value_text(value)}" for name, value in changed_fields(recipe, base).items()]
    return ", ".join(texts) or "the base recipe"

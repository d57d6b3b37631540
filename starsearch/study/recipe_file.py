"""Recipe files, and the fields of a recipe that a study searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from starsearch.errors import EvaluationError, SpecError
from starsearch.recipe import Recipe
from starsearch.resources import find_file
from starsearch.space import ChoiceParameter, FloatParameter, Parameter
from starsearch.space.dimension import slot_values
from starsearch.space.space import RECIPE_PREFIX
from starsearch.study.dimension_file import parse_range
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile, read_yaml

_DEFAULTS = Recipe()
RECIPE_FIELDS = tuple(field.name for field in fields(Recipe))


def load_recipe(text: str, *, beside: Path | None = None) -> Recipe:
    """The recipe of a file or of a shipped name; what the file leaves out is `Recipe`'s default.

    Raises:
        SpecError: no such recipe, or a rule is broken.
    """
    file = read_yaml(find_file(text, "recipes", beside=beside))
    recipe = validate(Recipe, file.data, file=file, known=RECIPE_FIELDS)
    check_trainable(recipe, error=lambda name, message: file.error((name,), message))
    return recipe


def check_trainable(
    recipe: Recipe, searched: Sequence[Parameter] = (), *, error: Callable[[str, str], SpecError]
) -> None:
    """Refuse what no network can be trained by: timm's factories are asked for what only timm knows.

    Args:
        recipe: with the values of all fields that are not searched.
        searched: fields of the recipe, each of whose values has to train.
        error: makes the error from a field's name and the message.
    """
    by_name = {parameter.name.removeprefix(RECIPE_PREFIX): parameter for parameter in searched}

    def values(name: str) -> tuple[Any, ...]:
        parameter = by_name.get(name)
        if parameter is None:
            return (getattr(recipe, name),)
        return (parameter.low, parameter.high) if isinstance(parameter, FloatParameter) else slot_values(parameter)

    odd = [batch for batch in values("batch_size") if batch % 2]
    if odd and any((*values("mixup"), *values("cutmix"))):
        raise error("batch_size", f"mixup and cutmix mix images in pairs, so that batches are even; got {odd[0]}.")
    if any(low > high for low, high in values("crop_scale")):
        raise error("crop_scale", f"the smallest share comes first; got {list(recipe.crop_scale)}.")
    for field in ("optimizer", "auto_augment", "teacher"):
        for value in values(field):
            try:
                # timm takes seconds to import; of the defaults it is known that they train.
                if value != getattr(_DEFAULTS, field):
                    for momentum in values("momentum") if field == "optimizer" else (recipe.momentum,):
                        _ask_timm(field, replace(recipe, **{field: value, "momentum": momentum}))
            except EvaluationError as reason:
                raise error(field, str(reason)) from None


def _ask_timm(field: str, recipe: Recipe) -> None:
    from torch.nn import Linear

    from starsearch.data.augmentation import make_transform
    from starsearch.training.distillation import check_teacher
    from starsearch.training.optimisation import make_optimizer

    if field == "optimizer":
        make_optimizer(Linear(1, 1), recipe)
    elif recipe.auto_augment is not None and field == "auto_augment":
        make_transform(recipe.auto_augment, 32)
    elif recipe.teacher is not None:
        check_teacher(recipe.teacher)


def parse_recipe_changes(file: YamlFile, at: Location, data: Any, base: Recipe) -> tuple[Recipe, tuple[Parameter, ...]]:
    """A study's `recipe:` section: plain values replace the base's, ranges and lists are searched.

    Raises:
        SpecError: an unknown field, or a value that the field cannot hold.
    """
    if not isinstance(data, dict):
        raise file.error(at, f"a mapping of recipe fields is needed; got {shorten(data)}.")
    fixed = {name: value for name, value in data.items() if not _is_searched(str(name), value)}
    searched = {name: value for name, value in data.items() if name not in fixed}
    changed = validate(Recipe, fixed, file=file, at=at, known=RECIPE_FIELDS)
    recipe = replace(base, **{name: getattr(changed, name) for name in fixed})
    found = tuple(_parse_searched(file, (*at, str(name)), str(name), value) for name, value in searched.items())
    check_trainable(recipe, found, error=lambda name, message: file.error((*at, name), message))
    return recipe, found


def _is_searched(name: str, value: Any) -> bool:
    """A mapping is a range; a list is a list of choices, save where the field itself is a pair."""
    is_pair = isinstance(getattr(_DEFAULTS, name, None), tuple)
    return isinstance(value, dict) or (isinstance(value, list) and not is_pair)


def _parse_searched(file: YamlFile, at: Location, name: str, data: Any) -> Parameter:
    if name not in RECIPE_FIELDS:
        validate(Recipe, {name: None}, file=file, at=at[:-1], known=RECIPE_FIELDS)  # says which is nearest
    check = _make_check(file, at, name)
    if isinstance(data, list):
        if not data:
            raise file.error(at, "a list of choices has at least one; got none.")
        for index, value in enumerate(data):
            if isinstance(value, list | dict):
                raise file.error((*at, index), f"a choice is a number, a text or null; got {shorten(value)}.")
            if value in data[:index]:
                raise file.error((*at, index), f"{value!r} stands twice; keep one.")
        # As the field holds them: 0 and 0.0 are one choice, and one candidate.
        choices = tuple(getattr(check(value), name) for value in data)
        if len(set(choices)) < len(choices):
            raise file.error(at, f"two choices are the same {name}; keep one.")
        return ChoiceParameter(name=RECIPE_PREFIX + name, choices=choices)
    integer = get_type_hints(Recipe)[name] is int
    return parse_range(file, at, data, RECIPE_PREFIX + name, integer=integer, check=check)


def _make_check(file: YamlFile, at: Location, name: str) -> Callable[[Any], Recipe]:
    """Holds one value of a field to its rule; returns the recipe that has it."""
    return lambda value: validate(Recipe, {name: value}, file=file, at=at[:-1], known=RECIPE_FIELDS)

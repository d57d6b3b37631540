"""Recipe files, and the `recipe:` section of a study: fields that it changes, and fields that it searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Discriminator, Tag, create_model

from starsearch.errors import EvaluationError, SpecError
from starsearch.recipe import Recipe
from starsearch.resources import find_file
from starsearch.space import ChoiceParameter, FloatParameter, Parameter
from starsearch.space.space import RECIPE_PREFIX
from starsearch.study.space_file import Range
from starsearch.study.validation import Distinct, Document, validate
from starsearch.yaml_file import YamlFile, read_yaml

_DEFAULTS = Recipe()
_PLAIN = get_type_hints(Recipe)


def _form(name: str, kind: Any) -> Any:
    """Return what may stand for a field: its value, a list of values to choose from, and for a number a range."""
    if isinstance(getattr(_DEFAULTS, name), tuple):
        return kind
    number = next((one for one in get_args(kind) if NoneType in get_args(kind) and one is not NoneType), kind)
    is_number = not {int, float}.isdisjoint({_PLAIN[name], *get_args(_PLAIN[name])})

    def branch(said: Any) -> str:
        return "Range" if is_number and isinstance(said, Mapping) else "List" if isinstance(said, list) else "Value"

    forms = Annotated[kind, Tag("Value")] | Annotated[Distinct[kind], Tag("List")]
    return Annotated[
        forms | Annotated[Range[number], Tag("Range")] if is_number else forms,  # type: ignore[valid-type]
        Discriminator(branch),
    ]


RecipeChanges: Any = create_model(  # type: ignore[call-overload] # field by field
    "RecipeChanges",
    __base__=Document,
    __doc__="A recipe's fields: a value replaces the recipe's, a range or a list is searched.",
    **{name: (_form(name, get_type_hints(Recipe, include_extras=True)[name]), None) for name in Recipe.__slots__},
)


def load_recipe(text: str, *, beside: Path | None = None) -> Recipe:
    """Return the recipe of a file or of a shipped name; what the file leaves out is `Recipe`'s default."""
    file = read_yaml(find_file(text, "recipes", beside=beside))
    recipe = validate(Recipe, file.data, file=file)
    check_trainable(recipe, error=lambda name, message: file.error((name,), message))
    return recipe


def change_recipe(file: YamlFile, said: Any, base: Recipe) -> tuple[Recipe, tuple[Parameter, ...]]:
    """Return `base` with the plain values of `said`, the file's `RecipeChanges`; and the fields that it searches."""
    given = {name: getattr(said, name) for name in file.data.get("recipe", ())}
    searched = {name: value for name, value in given.items() if isinstance(value, list | Range)}
    recipe = replace(base, **{name: value for name, value in given.items() if name not in searched})
    found = tuple(_parameter(file, name, value) for name, value in searched.items())
    check_trainable(recipe, found, error=lambda name, message: file.error(("recipe", name), message))
    return recipe, found


def _parameter(file: YamlFile, name: str, said: Any) -> Parameter:
    if isinstance(said, list):
        return ChoiceParameter(name=RECIPE_PREFIX + name, choices=tuple(said))
    parameter: Parameter = said.parameter(
        RECIPE_PREFIX + name,
        integer=_PLAIN[name] is int,
        error=lambda message: file.error(("recipe", name), message),
    )
    return parameter


def check_trainable(
    recipe: Recipe, searched: Sequence[Parameter] = (), *, error: Callable[[str, str], SpecError]
) -> None:
    """Refuse what no network can be trained by; timm's factories are asked for what only timm knows.

    Args:
        recipe: the values of all fields that are not searched.
        searched: fields of the recipe; every value of each has to train.
        error: makes the error from a field's name and the message.
    """
    by_name = {parameter.name.removeprefix(RECIPE_PREFIX): parameter for parameter in searched}

    def values(name: str) -> tuple[Any, ...]:
        parameter = by_name.get(name)
        if parameter is None:
            return (getattr(recipe, name),)
        return (parameter.low, parameter.high) if isinstance(parameter, FloatParameter) else parameter.values

    odd = [batch for batch in values("batch_size") if batch % 2]
    if odd and any((*values("mixup"), *values("cutmix"))):
        raise error("batch_size", f"mixup and cutmix mix images in pairs, so that batches are even; got {odd[0]}.")
    if any(low > high for low, high in values("crop_scale")):
        raise error("crop_scale", f"the smallest share comes first; got {list(recipe.crop_scale)}.")
    for field in ("optimizer", "auto_augment", "teacher"):
        for value in values(field):
            if value == getattr(_DEFAULTS, field):
                continue  # timm takes seconds to import; of the defaults it is known that they train
            for momentum in values("momentum") if field == "optimizer" else (recipe.momentum,):
                try:
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

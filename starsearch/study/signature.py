"""What makes a study's trials comparable: if any of it changes, it is another study."""

from __future__ import annotations

from dataclasses import fields

from starsearch.recipe import Recipe
from starsearch.study.spec import StudySpec


def sign_study(spec: StudySpec, *, data: str, device: str | None) -> dict[str, str]:
    """The study's conditions, item by item in words, to be compared when it is resumed.

    How long and by which sampler the search goes on, and whose weights are kept, may change.

    Args:
        spec: what the file says.
        data: the data set in words, with its fingerprint.
        device: what latency is measured on, in words; None where it is no objective.
    """
    items = spec.space.describe()
    items.update({f"recipe.{f.name}": str(getattr(spec.recipe, f.name)) for f in fields(Recipe)} | _searched(spec))
    items.update({f"fidelity.{name}": str(getattr(spec.fidelity, name)) for name in spec.fidelity.__slots__})
    items["data"] = data
    if device is not None:
        items["device"] = device
    for objective in spec.objectives:
        on = f" on {objective.device}" if objective.device else ""
        items[f"objectives.{objective.name}"] = objective.direction + on
    for constraint in spec.constraints:
        items[f"constraints.{constraint.name}"] = f"{constraint.low} to {constraint.high}"
    items["seed"] = str(spec.seed)
    return items


def _searched(spec: StudySpec) -> dict[str, str]:
    """The searched fields of the recipe, which stand in place of the recipe's own."""
    described = spec.space.describe()
    return {p.name: described[p.name] for p in spec.space.recipe_parameters}

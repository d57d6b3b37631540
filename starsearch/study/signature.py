"""What makes a study's trials comparable: if any of it changes, it is another study."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING

from starsearch.objective import Constraint
from starsearch.recipe import Fidelity, Recipe
from starsearch.study.spec import Rung, StudySpec

if TYPE_CHECKING:
    from starsearch.latency.profile import DeviceProfile


def sign_study(spec: StudySpec, *, data: str, device: str | None) -> dict[str, str]:
    """The study's conditions, item by item in words, to be compared when it is resumed.

    How long and by which sampler the search goes on, and whose weights are kept, may change.

    Args:
        spec: what the file says.
        data: the data set in words, with its fingerprint.
        device: what latency is measured on in the trials, in words; None where nothing is.
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
    for name, profile in spec.profiles.items():
        items[f"profiles.{name}"] = describe_profile(profile)
    if spec.halving is not None:
        items["halving.rungs"] = "; ".join(_describe_rung(rung) for rung in spec.halving.rungs)
    if spec.promotion is not None and spec.promotion.start != "scratch":
        items["promotion.start"] = spec.promotion.start
    items["seed"] = str(spec.seed)
    return items


def in_words(name: str, item: str) -> str:
    """An item of `sign_study` for a reader: bounds, which studies have kept as "None to 1.0", as "at most 1"."""
    if not name.startswith("constraints."):
        return item
    low, _, high = ("" if end == "None" else end for end in item.partition(" to "))
    return str(Constraint(name=name, low=float(low) if low else None, high=float(high) if high else None))


def unsaid() -> dict[str, str]:
    """What an item meant in studies that were begun before it was there: the field's default."""
    recipe, fidelity = Recipe(), Fidelity()
    items = {f"recipe.{f.name}": str(getattr(recipe, f.name)) for f in fields(Recipe)}
    return items | {f"fidelity.{name}": str(getattr(fidelity, name)) for name in Fidelity.__slots__}


def _describe_rung(rung: Rung) -> str:
    """A rung in words; η may change while a study runs, what a rung's values mean may not."""
    less = {"px": rung.resolution, "images": rung.samples}
    return f"{rung.epochs} epochs" + "".join(f", {number} {unit}" for unit, number in less.items() if number)


def describe_profile(profile: DeviceProfile) -> str:
    """A profile by name, device and a digest of what its predictions follow from (not its interval or error)."""
    scale = None if profile.reference is None else profile.reference.ms
    rests_on = [sorted(profile.coefficients_ms.items()), profile.vector_width, profile.resolution, scale]
    digest = hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()[:12]
    return f"{profile.name} ({digest}) of {profile.device.text}"


def _searched(spec: StudySpec) -> dict[str, str]:
    """The searched fields of the recipe, which stand in place of the recipe's own."""
    described = spec.space.describe()
    return {p.name: described[p.name] for p in spec.space.recipe_parameters}

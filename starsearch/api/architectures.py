"""An architecture in any of the forms a user may write."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import ArchitectureError, StudyError
from starsearch.families.family import Architecture
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.report.view import StudyView


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTrial:
    """A trial of a study, and how its network was trained there.

    Attributes:
        architecture: of the network.
        recipe: the study's with the trial's searched values, of as many epochs as the trial had.
        searched: names of the recipe's fields that the study searched.
        fidelity: at which it was judged.
    """

    architecture: Architecture
    recipe: Recipe
    searched: tuple[str, ...]
    fidelity: Fidelity


def find_architecture(text: str) -> Architecture:
    """The canonical architecture that `text` names.

    A name (starnet_s1), one line (starnet:embed_dim=24,depths=2-2-8-3), a YAML file of fields, or a study's trial
    (studies/starnet:7; split at the last colon before digits).

    Raises:
        ArchitectureError: the text, or the file's fields, cannot be read.
        SpecError: the file is not YAML.
        StudyError: no such study or trial.
    """
    if Path(text).is_file():
        return _of_file(Path(text))
    found = _find_row(text)
    return parse_architecture(text if found is None else str(found[1]["architecture_text"]))


def find_trial(text: str) -> StudyTrial | None:
    """Return the trial that `text` names as STUDY:TRIAL; None where it names an architecture in another form.

    Raises:
        StudyError: no such study or trial.
    """
    found = None if Path(text).is_file() else _find_row(text)
    if found is None:
        return None
    view, row = found
    signature: Mapping[str, str] = view.attributes.get("signature", {})
    prefix = "params_recipe."
    params = {str(key).removeprefix(prefix): value for key, value in row.items() if str(key).startswith(prefix)}
    fidelity = Fidelity(**_said(signature, "fidelity", Fidelity))
    # What differs from the study's recipe stands there as it was; a column of the table knows but floats and NaN.
    searched = {name: _as_field(name, value) for name, value in params.items()} | json.loads(row["recipe"])
    recipe = Recipe(**{**_said(signature, "recipe", Recipe), **searched})
    return StudyTrial(
        architecture=parse_architecture(str(row["architecture_text"])),
        recipe=replace(recipe, epochs=fidelity.epochs or recipe.epochs),
        searched=tuple(searched),
        fidelity=fidelity,
    )


def find_deployment(text: str) -> tuple[int | None, int]:
    """Return the resolution and the number of classes that the network `text` names is deployed with.

    A study says both of its trials; other networks have no resolution of their own and ImageNet's 1,000 classes.

    Raises:
        StudyError: no such study or trial.
    """
    found = None if Path(text).is_file() else _find_row(text)
    if found is None:
        return None, 1000
    attributes = found[0].attributes
    resolution = attributes.get("signature", {}).get("space.resolution")
    return (int(resolution) if resolution else None), len(attributes.get("classes", ())) or 1000


def _of_file(path: Path) -> Architecture:
    from starsearch.yaml_file import read_yaml

    file = read_yaml(path)
    if not isinstance(file.data, dict):
        raise file.error((), "an architecture is a mapping of fields, as embed_dim: 24.")
    values: dict[str, Any] = {
        str(name): tuple(value) if isinstance(value, list) else value for name, value in file.data.items()
    }
    try:
        return Architecture.of(**values).canonical()
    except ArchitectureError as error:
        raise file.error((), str(error)) from None


def _find_row(text: str) -> tuple[StudyView, pd.Series[Any]] | None:
    """The trial that STUDY:TRIAL names, as a row of its study's table; None where `text` is of another form."""
    from starsearch.api.study import load_study

    trial = re.fullmatch(r"(.+):(\d+)", text)
    if trial is None:
        return None
    view = load_study(trial[1]).view
    found = view.trials[view.trials["number"] == int(trial[2])]
    if found.empty:
        raise StudyError(f"The study {trial[1]} has no trial {trial[2]}.")
    if not isinstance(found.iloc[0]["architecture_text"], str):
        raise StudyError(f"Trial {trial[2]} of {trial[1]} was made by another program: it has no architecture.")
    return view, found.iloc[0]


def _as_field(name: str, value: Any) -> Any:
    if value != value:
        return None
    return int(value) if isinstance(getattr(Recipe(), name), int) else getattr(value, "item", lambda: value)()


def _said(signature: Mapping[str, str], what: str, kind: type[Recipe | Fidelity]) -> dict[str, Any]:
    """The fields of a recipe or fidelity that a study was begun with, from their texts."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        if (text := signature.get(f"{what}.{field.name}")) is not None:
            try:
                found[field.name] = ast.literal_eval(text)
            except (ValueError, SyntaxError):  # a name
                found[field.name] = text
    return found

"""A study file, or a space file with the study defaults, as a `StudySpec`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from starsearch.candidate import Candidate
from starsearch.data.source import DataSource
from starsearch.errors import DataError, SpecError, did_you_mean
from starsearch.families.family import presets
from starsearch.objective import LATENCY, THIS_MACHINE, Objective
from starsearch.recipe import Fidelity, Recipe
from starsearch.resources import find_file, shipped_folder
from starsearch.space import SearchSpace
from starsearch.study.fidelity_file import Step, check_steps, climb, parse_fidelities
from starsearch.study.halving_file import parse_halving
from starsearch.study.objective_file import parse_objectives, parse_quantity_constraints
from starsearch.study.recipe_file import load_recipe, parse_recipe_changes
from starsearch.study.settings import apply_settings
from starsearch.study.space_file import CONSTRAINED, SPACE_KEYS, load_space, parse_anchors, parse_space
from starsearch.study.spec import SAMPLERS, KeepWeights, StudySpec
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile, read_yaml

STUDY_KEYS = ("space", "data", "objectives", "constraints", "fidelities", "recipe", "search", "anchors")
SEARCH_KEYS = ("sampler", "trials", "seed", "halving", "keep_weights")
EMBEDDED_DATA = "digits"
# Of a space file's settings those of the space; all others are of the study that it runs as.
_SPACE_SETTINGS = (
    *(f"{key}{end}" for key in SPACE_KEYS if key not in ("anchors", "constraints") for end in ".="),
    *(f"constraints.{name}{end}" for name in CONSTRAINED for end in ".="),
)
DEFAULT_OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name=LATENCY, direction="minimize", device=THIS_MACHINE),
)
# Digits are 8 by 8 pixels; enlarged to 32, every stage still has a map at the published stem stride.
DIGITS_FIDELITY = Fidelity(name="proxy", resolution=32, epochs=2, recipe="digits")
PROXY_FIDELITY = Fidelity(name="proxy", resolution=32, epochs=3, samples=10_000, recipe="proxy")


def load_study(
    text: str,
    *,
    name: str | None = None,
    data: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
) -> StudySpec:
    """The study that a file (or a shipped space's name) describes, at its first fidelity; as `load_ladder`.

    Raises:
        SpecError: a rule is broken; the text says file, line, rule and what came.
    """
    return load_ladder(text, name=name, data=data, trials=trials, seed=seed, settings=settings)[0]


def load_ladder(
    text: str,
    *,
    name: str | None = None,
    data: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
) -> tuple[StudySpec, ...]:
    """The study that a file (or a shipped space's name) describes, with the command line's changes.

    Args:
        text: a file, or a shipped space's name.
        name: of the study, in place of the file's stem.
        data: in place of the file's.
        trials: at the first fidelity, in place of the file's.
        seed: in place of the file's.
        settings: "KEY=VALUE", changes of single values in the file.

    Returns:
        A study a fidelity, the cheapest first.

    Raises:
        SpecError: a rule is broken; the text says file, line, rule and what came.
    """
    file, space = _read(text, data, settings)
    given: dict[str, Any] = {"name": name or _default_name(file.path), "trials": trials, "seed": seed}
    changes = {key: value for key, value in given.items() if value is not None}
    steps = parse_fidelities(file, file.data["fidelities"]) if "fidelities" in file.data else ()
    first = replace(_parse_study(file, data, steps[0].fidelity if steps else None, space), **changes)
    specs = (first, *(_climb(file, first, step, number) for number, step in enumerate(steps[1:], start=1)))
    check_steps(file, specs)
    above = (*specs[1:], None)
    return tuple(_with_weights_for(two, one) for one, two in zip(specs, above, strict=True))


def _read(text: str, data: str | None, settings: Sequence[str]) -> tuple[YamlFile, SearchSpace | None]:
    """The study file with its changed values; of a space file, which runs as a study, also the space.

    What the file leaves to the defaults can be changed as well.
    """
    file = read_yaml(find_file(text, "spaces"))
    space = None
    if not _is_study(file):
        of_space = [one for one in settings if one.startswith(_SPACE_SETTINGS)]
        space = parse_space(apply_settings(file, of_space))
        file = replace(file, data={"space": str(file.path)}, lines={})
        settings = [one for one in settings if one not in of_space]
    named = {setting.partition("=")[0].partition(".")[0]: setting.partition("=")[2] for setting in settings}
    source = data or named.get("data") or file.data.get("data") or EMBEDDED_DATA
    defaults = {
        "fidelities": [asdict(_default_fidelity(source))],
        "objectives": {
            one.name: {"direction": one.direction} | ({"device": one.device} if one.device else {})
            for one in DEFAULT_OBJECTIVES
        },
    }
    laid_under = {key: value for key, value in defaults.items() if key in named}
    return apply_settings(replace(file, data=laid_under | file.data), settings), space


def _with_weights_for(above: StudySpec | None, spec: StudySpec) -> StudySpec:
    """Keep everybody's weights where trainings begin with them."""
    if above is not None and above.promotion is not None and above.promotion.start == "weights":
        return replace(spec, keep_weights="all")
    return spec


def _climb(file: YamlFile, first: StudySpec, step: Step, number: int) -> StudySpec:
    recipe, space = _parse_recipe(file, step.fidelity, first.space, number)
    return climb(first, step, recipe=recipe, space=space)


def _is_study(file: YamlFile) -> bool:
    if not isinstance(file.data, dict) or not {"space", "dimensions"} & set(file.data):
        came = ", ".join(str(k) for k in file.data) if isinstance(file.data, dict) else shorten(file.data)
        raise file.error((), f"a space has the key 'dimensions', a study the key 'space'; got {came}.")
    if {"space", "dimensions"} <= set(file.data):
        raise file.error(("dimensions",), "a file is a space (dimensions) or a study (space), not both.")
    return "space" in file.data


def _default_name(path: Path) -> str:
    """The file's stem; a file called study.yaml is named by its folder."""
    return path.resolve().parent.name if path.stem == "study" else path.stem


def _called(space: Path) -> str:
    """What a command calls a space: its file as seen from the working folder, or a shipped space's name."""
    return space.stem if space.parent.resolve() == shipped_folder("spaces").resolve() else str(space)


def _default_fidelity(data: str) -> Fidelity:
    return DIGITS_FIDELITY if data == EMBEDDED_DATA else PROXY_FIDELITY


def _study_of_space(space: SearchSpace, data: str | None) -> StudySpec:
    source = data or EMBEDDED_DATA
    fidelity = _default_fidelity(source)
    return StudySpec(
        name=space.name,
        space=space,
        data=source,
        recipe=load_recipe(fidelity.recipe),
        fidelity=fidelity,
        objectives=DEFAULT_OBJECTIVES,
    )


def _parse_study(
    file: YamlFile, data: str | None, fidelity: Fidelity | None, space: SearchSpace | None = None
) -> StudySpec:
    raw: dict[str, Any] = file.data
    head = _check_head(file)
    space = space or _load_named_space(file, raw["space"])
    spec = replace(
        _study_of_space(space, data or _beside(file, head.data)),
        space_file=_called(find_file(raw["space"], "spaces", beside=file.path.parent)),
    )
    fidelity = fidelity or spec.fidelity
    space, anchor_recipes = _parse_anchors(file, space)
    recipe, space = _parse_recipe(file, fidelity, space)
    if anchor_recipes and not space.recipe_parameters:
        raise file.error(("anchors", "recipe"), "nothing of the recipe is searched: give a field of recipe: a range.")
    objectives, profiles = parse_objectives(file, raw["objectives"]) if "objectives" in raw else (spec.objectives, {})
    constraints, more_profiles = parse_quantity_constraints(file, raw.get("constraints", {}), objectives)
    profiles |= more_profiles
    search = _parse_search(file, raw.get("search", {}))
    spec = replace(
        spec,
        space=space,
        fidelity=fidelity,
        recipe=recipe,
        anchor_recipes=anchor_recipes,
        objectives=objectives,
        constraints=constraints,
        profiles={name: found.profile for name, found in profiles.items()},
        profile_files={name: found.file for name, found in profiles.items()},
        **search,
    )
    return replace(spec, halving=parse_halving(file, raw.get("search", {}).get("halving"), spec))


def _parse_anchors(file: YamlFile, space: SearchSpace) -> tuple[SearchSpace, int]:
    """The space with the study's anchors, and the recipes that are drawn for each: `[a, b]`, or with `recipe`."""
    from pydantic import BaseModel, ConfigDict

    class Anchors(BaseModel):
        model_config = ConfigDict(extra="forbid")
        names: Any = None
        recipe: Literal["base", "searched"] = "base"
        trials: Annotated[int, Ge(1), Le(1_000)] = 8

    data = file.data.get("anchors", list(space.anchors))
    if not isinstance(data, dict):
        return replace(space, anchors=parse_anchors(file, ("anchors",), data, space)), 0
    found = validate(Anchors, data, file=file, at=("anchors",), known=("names", "recipe", "trials"))
    names = parse_anchors(file, ("anchors", "names"), data.get("names", list(space.anchors)), space)
    if found.recipe == "searched" and len(file.data.get("fidelities", ())) > 1:
        raise file.error(("anchors", "recipe"), "the recipes of anchors are searched in a study of one fidelity.")
    return replace(space, anchors=names), found.trials if found.recipe == "searched" else 0


def _parse_recipe(
    file: YamlFile, fidelity: Fidelity, space: SearchSpace, number: int = 0
) -> tuple[Recipe, SearchSpace]:
    """The recipe at the fidelity of a number, with the study's changes; and the space with what is searched of it."""
    changes = file.data.get("recipe", {})
    recipe = _load_named_recipe(file, fidelity.recipe, number)
    if fidelity.epochs is not None and "epochs" in (changes or {}):
        raise file.error(
            ("recipe", "epochs"), f"the fidelity {fidelity.name!r} sets the epochs ({fidelity.epochs}); say them there."
        )
    recipe, searched = parse_recipe_changes(file, ("recipe",), changes, recipe)
    if recipe.batch_size % fidelity.accumulate:
        raise file.error(
            ("fidelities", number, "accumulate"),
            f"micro-batches divide batch_size {recipe.batch_size}; got {fidelity.accumulate}.",
        )
    space = replace(space, recipe_parameters=searched)
    _check_anchors_train(file, space, recipe)
    return recipe, space


def _check_head(file: YamlFile) -> Any:
    from pydantic import BaseModel, ConfigDict

    class StudyHead(BaseModel):
        model_config = ConfigDict(extra="forbid")
        space: str
        data: str | None = None
        objectives: Any = None
        constraints: Any = None
        fidelities: Any = None
        recipe: Any = None
        search: Any = None
        anchors: Any = None

    return validate(StudyHead, file.data, file=file, known=STUDY_KEYS)


def _beside(file: YamlFile, data: str | None) -> str | None:
    """The file's `data:`; a folder that lies beside the file is meant relative to it, as its space is."""
    if data is None:
        return None
    try:
        source = DataSource.parse(data)
    except DataError as error:
        raise file.error(("data",), str(error)) from None
    beside = file.path.parent / source.path
    return source.named(str(beside)) if beside.is_dir() else data


def _load_named_space(file: YamlFile, text: str) -> SearchSpace:
    try:
        path = find_file(text, "spaces", beside=file.path.parent)
    except SpecError as error:
        raise file.error(("space",), str(error)) from None
    named = read_yaml(path)
    if not isinstance(named.data, dict) or "dimensions" not in named.data:
        raise file.error(
            ("space",), f"{text} is no space: it has no 'dimensions'. A space has: {', '.join(SPACE_KEYS)}."
        )
    return load_space(path)


def _check_anchors_train(file: YamlFile, space: SearchSpace, recipe: Recipe) -> None:
    """Anchors are trained by the recipe as it is, so it has to lie in the searched ranges."""
    for anchor in space.anchors[:1]:
        try:
            space.encode(Candidate(architecture=presets()[anchor], recipe=recipe))
        except SpecError as error:
            raise file.error(("recipe",), str(error)) from None


def _load_named_recipe(file: YamlFile, text: str, number: int) -> Recipe:
    try:
        find_file(text, "recipes", beside=file.path.parent)
    except SpecError as error:
        raise file.error(("fidelities", number, "recipe"), str(error)) from None
    return load_recipe(text, beside=file.path.parent)


def _parse_search(file: YamlFile, data: Any) -> dict[str, Any]:
    """The `search:` section as fields of `StudySpec`; what it leaves out is left to the defaults."""
    at: Location = ("search",)
    found = validate(_make_search(), data, file=file, at=at, known=SEARCH_KEYS)
    if "sampler" in data and found.sampler not in SAMPLERS:
        raise file.error(
            (*at, "sampler"),
            f"unknown sampler {found.sampler!r}.{did_you_mean(found.sampler, SAMPLERS)} Known: {', '.join(SAMPLERS)}.",
        )
    return {name: getattr(found, name) for name in data if name != "halving"}


def _make_search() -> Any:
    from pydantic import BaseModel, ConfigDict

    class Search(BaseModel):
        model_config = ConfigDict(extra="forbid")
        sampler: str = "tpe"
        trials: Annotated[int, Ge(1), Le(1_000_000)] = 16
        seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
        halving: Any = None
        keep_weights: KeepWeights = "front"

    return Search

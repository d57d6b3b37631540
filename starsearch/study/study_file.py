"""Study files: the documents, and the `StudySpec` for each fidelity that they describe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from annotated_types import Ge, Le, MinLen
from pydantic import Field, create_model

from starsearch.candidate import Candidate
from starsearch.data.source import DataSource
from starsearch.errors import DataError, SpecError, StarsearchError
from starsearch.families.family import presets
from starsearch.families.timm import TIMM
from starsearch.latency.prediction.profile import DeviceProfile, load_profile
from starsearch.objective import (
    LATENCY,
    THIS_MACHINE,
    Constraint,
    Direction,
    Objective,
    device_label,
    is_accuracy,
    is_latency,
)
from starsearch.quantities import QUANTITIES
from starsearch.recipe import Fidelity, Recipe
from starsearch.resolution import Resolution, sides
from starsearch.resources import find_file, shipped_folder
from starsearch.space import SearchSpace
from starsearch.study.recipe_file import RecipeChanges, change_recipe, load_recipe
from starsearch.study.space_file import (
    CONSTRAINED,
    SPACE_KEYS,
    Bounds,
    check_known,
    load_space,
    parse_space,
    with_anchors,
)
from starsearch.study.spec import Halving, KeepWeights, Promotion, Rung, SamplerName, Start, StudySpec
from starsearch.study.validation import Document, apply_settings, shorten, validate
from starsearch.yaml_file import Location, YamlFile, parse_yaml, read_yaml

# The deployed network as int8 is timed where it is made.
_ON_THIS_MACHINE = ("int8_latency_ms",)
EMBEDDED_DATA = "digits"
_FROM_PYTHON = Path("study-in-python.yaml")  # what complaints and the study are called after, of a mapping
# Digits are 8 by 8 pixels; enlarged to 32, every stage still has a map at the published stem stride.
_FIDELITIES = {EMBEDDED_DATA: Fidelity(name="proxy", resolution=32, epochs=2, recipe="digits")}
_PROXY = Fidelity(name="proxy", resolution=32, epochs=3, samples=10_000, recipe="proxy")  # of all other data
# Of a space file's settings those of the space; all others are of the study that it runs as.
_SPACE_SETTINGS = (
    *(f"{key}{end}" for key in SPACE_KEYS if key not in ("anchors", "constraints") for end in ".="),
    *(f"constraints.{name}{end}" for name in CONSTRAINED for end in ".="),
)


class Anchors(Document):
    """Published networks that are trained by further recipes, drawn from the searched ones."""

    names: list[str] | None = None
    recipe: Literal["base", "searched"] = "base"
    trials: Annotated[int, Ge(1), Le(1_000)] = 8


class Goal(Document):
    """An objective's direction and, for a latency, its device."""

    direction: Direction | None = None
    device: str | None = None


class QuantityBounds(Bounds):
    """Bounds of a measured quantity; a latency that is no objective says its device here."""

    device: str | None = None


class Promoted(Document):
    """Who comes from the fidelity before."""

    promote: Annotated[int, Ge(0), Le(100_000)] | None = None
    promote_random: Annotated[int, Ge(0), Le(100_000)] = 0
    start: Start = "scratch"


FidelityFile: Any = create_model(  # type: ignore[call-overload] # field by field
    "FidelityFile",
    __base__=Promoted,
    __doc__="How much is spent on judging a candidate, and who comes from the fidelity before.",
    **{one.name: (get_type_hints(Fidelity, include_extras=True)[one.name], one.default) for one in fields(Fidelity)},
)


class HalvingFile(Document):
    """Successive halving: without `rungs` one stands at 1/eta of the epochs, one at 1/eta², and so on."""

    eta: Annotated[int, Ge(2), Le(100)] = 3
    rungs: Annotated[list[Rung | int], MinLen(1)] | None = None


class Search(Document):
    """How candidates are chosen and how many, and whose weights are kept.

    Without `sampler` it is auto where networks alone are searched, for accuracy; else tpe.
    """

    sampler: SamplerName | None = None
    trials: Annotated[int, Ge(1), Le(1_000_000)] = 16
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    halving: HalvingFile | None = None
    keep_weights: KeepWeights = "front"


class StudyFile(Document):
    """A study; what it leaves out is the default of its space and data."""

    space: str
    data: str | None = None
    anchors: list[str] | Anchors | None = None
    baselines: list[str] = Field(default=[])
    objectives: Annotated[dict[str, Direction | Goal], MinLen(1)] = Field(
        default={"top1_percent": "maximize", LATENCY: Goal(direction="minimize", device=THIS_MACHINE)}
    )
    constraints: dict[str, QuantityBounds] = Field(default={})
    fidelities: Annotated[list[FidelityFile], MinLen(1)] | None = None
    recipe: RecipeChanges = RecipeChanges()
    search: Search = Search()


def load_study(text: str, **changes: Any) -> StudySpec:
    """Return the study that a file describes, at its first fidelity; see `load_specs`."""
    return load_specs(text, **changes)[0]


def load_specs(
    text: str | Mapping[str, Any],
    *,
    name: str | None = None,
    data: str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    has_gpu: Callable[[str], bool] = lambda _fidelity: False,
) -> tuple[StudySpec, ...]:
    """Return the specs that a file (or a shipped space's name) describes, one for each fidelity, the cheapest first.

    >>> [spec.trials for spec in load_specs("starnet", trials=4)]
    [4]

    Args:
        text: a file, a shipped space's name, or the mapping that such a file would hold.
        name, data, trials, seed: in place of the file's; `trials` at the first fidelity.
        settings: "KEY=VALUE", changes of single values in the file.
        has_gpu: whether the evaluations of a fidelity have a GPU, by its name; one that says no `precision` takes
            bfloat16 then.

    Raises:
        SpecError: the file cannot be found or breaks a rule; the message names file, line and key.
    """
    file, space = _read(text, data, settings)
    said = validate(StudyFile, file.data, file=file)
    source = data or _beside(file, said.data) or EMBEDDED_DATA
    space = space or _load_named_space(file, said.space)
    steps = said.fidelities or [FidelityFile(**_default_fidelity(source, space.resolution))]
    _check_steps(file, steps)
    first = _first_spec(file, said, source, steps[0], space)
    given: dict[str, Any] = {"name": name, "trials": trials, "seed": seed}
    first = replace(first, **{key: value for key, value in given.items() if value is not None})
    specs = [first, *(_later_spec(file, said, first, steps, number) for number in range(1, len(steps)))]
    for number, step in enumerate(steps):
        if "precision" not in step.model_fields_set:
            spec = specs[number]
            fidelity = replace(spec.fidelity, precision="bfloat16" if has_gpu(step.name) else "float32")
            specs[number] = replace(spec, fidelity=fidelity, left_open=spec.left_open | {"precision"})
    for number, (below, above) in enumerate(pairwise(specs), 1):
        if above.trials > below.trials:
            raise file.error(
                ("fidelities", number, "promote"),
                f"{above.trials} are promoted, but {below.fidelity.name!r} has {below.trials} candidates.",
            )
    _check_baselines(file, said, specs)
    # Where trainings begin with the weights of the fidelity before, that keeps everybody's.
    starts = [*(spec.promotion.start if spec.promotion else None for spec in specs[1:]), None]
    return tuple(
        replace(spec, keep_weights="all") if start == "weights" else spec
        for spec, start in zip(specs, starts, strict=True)
    )


def _read(
    said: str | Mapping[str, Any], data: str | None, settings: Sequence[str]
) -> tuple[YamlFile, SearchSpace | None]:
    """Return the study file with its changed values; for a space file, which runs as a study, also the space.

    A mapping is read as if it were a file of the working folder. What is left to the defaults can be changed as well.
    """
    if isinstance(said, str):
        file = read_yaml(find_file(said, "spaces"))
    else:
        file = parse_yaml(yaml.safe_dump(dict(said), sort_keys=False), _FROM_PYTHON)
    space = None
    if not _is_study(file):
        of_space = [one for one in settings if one.startswith(_SPACE_SETTINGS)]
        space = parse_space(apply_settings(file, of_space))
        file = replace(file, data={"space": str(file.path)}, lines={})
        settings = [one for one in settings if one not in of_space]
    named = {setting.partition("=")[0].partition(".")[0]: setting.partition("=")[2] for setting in settings}
    source = data or named.get("data") or file.data.get("data") or EMBEDDED_DATA
    defaults = {
        "fidelities": [_default_fidelity(source, space.resolution if space else 224)],
        "objectives": StudyFile(space="").model_dump(exclude_none=True)["objectives"],
    }
    laid_under = {key: value for key, value in defaults.items() if key in named}
    return apply_settings(replace(file, data=laid_under | file.data), settings), space


def _default_fidelity(source: str, deployed: Resolution) -> dict[str, Any]:
    """Return the fidelity of a study that says none, in the shape of what is deployed; `precision` is the device's."""
    fidelity = asdict(_FIDELITIES.get(source, _PROXY).scaled(deployed, min(sides(deployed))))
    return {name: value for name, value in fidelity.items() if name != "precision"}


def _is_study(file: YamlFile) -> bool:
    if not isinstance(file.data, dict) or not {"space", "dimensions"} & set(file.data):
        came = ", ".join(str(k) for k in file.data) if isinstance(file.data, dict) else shorten(file.data)
        raise file.error((), f"a space has the key 'dimensions', a study the key 'space'; got {came}.")
    if {"space", "dimensions"} <= set(file.data):
        raise file.error(("dimensions",), "a file is a space (dimensions) or a study (space), not both.")
    return "space" in file.data


def _beside(file: YamlFile, data: str | None) -> str | None:
    """Return the file's `data:`; a folder that lies beside the file is meant relative to it, as its space is."""
    if data is None:
        return None
    try:
        source = DataSource.parse(data)
    except DataError as error:
        raise file.error(("data",), str(error)) from None
    beside = file.path.parent / source.path
    return source.named(str(beside)) if beside.is_dir() else data


def _load_named_space(file: YamlFile, text: str) -> SearchSpace:
    named = read_yaml(_find(file, ("space",), text, "spaces"))
    if not isinstance(named.data, dict) or "dimensions" not in named.data:
        raise file.error(
            ("space",), f"{text} is no space: it has no 'dimensions'. A space has: {', '.join(SPACE_KEYS)}."
        )
    return load_space(named.path)


def _find(file: YamlFile, at: Location, text: str, kind: Literal["spaces", "recipes"]) -> Path:
    try:
        return find_file(text, kind, beside=file.path.parent)
    except SpecError as error:
        raise file.error(at, str(error)) from None


def _first_spec(file: YamlFile, said: StudyFile, source: str, step: Any, space: SearchSpace) -> StudySpec:
    runs_itself = said.space == str(file.path)  # a space, or a mapping of one
    path = file.path if runs_itself else find_file(said.space, "spaces", beside=file.path.parent)
    is_shipped = path.parent.resolve() == shipped_folder("spaces").resolve()
    fidelity = _fidelity(file, step, space.resolution)
    space, anchor_recipes = _with_anchors(file, said, space)
    recipe, space = _recipe(file, said, fidelity, space, 0)
    if anchor_recipes and not space.recipe_parameters:
        raise file.error(("anchors", "recipe"), "nothing of the recipe is searched: give a field of recipe: a range.")
    beside = [*space.recipe_parameters, *([space.searched_resolution] if space.searched_resolution else [])]
    if said.search.sampler == "auto" and beside:
        searched = ", ".join(one.name for one in beside)
        message = (
            f"auto models networks, not recipes or resolutions, and this study searches {searched}: say sampler: tpe."
        )
        raise file.error(("search", "sampler"), message)
    quantities = _Quantities(file)
    objectives = tuple(quantities.objective(name, goal) for name, goal in said.objectives.items())
    constraints = tuple(quantities.constraint(name, one, said.objectives) for name, one in said.constraints.items())
    is_for_auto = not beside and any(is_accuracy(one.name) for one in objectives)
    spec = StudySpec(
        # A file called study.yaml is named by its folder.
        name=file.path.resolve().parent.name if file.path.stem == "study" else file.path.stem,
        space=space,
        data=source,
        recipe=recipe,
        fidelity=fidelity,
        objectives=objectives,
        constraints=constraints,
        profiles={name: profile for name, (profile, _) in quantities.profiles.items()},
        profile_files={name: called for name, (_, called) in quantities.profiles.items()},
        space_file=path.stem if is_shipped else str(path),
        sampler=said.search.sampler or ("auto" if is_for_auto else "tpe"),
        # With a recipe or the resolution it has always been tpe, and cannot be auto.
        left_open=frozenset() if said.search.sampler or beside else frozenset({"sampler"}),
        trials=said.search.trials,
        seed=said.search.seed,
        anchor_recipes=anchor_recipes,
        baselines=_baselines(file, said, quantities.profiles),
        keep_weights=said.search.keep_weights,
    )
    return replace(spec, halving=_halving(file, said.search.halving, spec))


def _later_spec(file: YamlFile, said: StudyFile, first: StudySpec, steps: Sequence[Any], number: int) -> StudySpec:
    step, fidelity = steps[number], _fidelity(file, steps[number], first.space.resolution)
    recipe, space = _recipe(file, said, fidelity, first.space, number)
    return replace(
        first,
        name=f"{first.name}.{fidelity.name}",
        space=space,
        recipe=recipe,
        fidelity=fidelity,
        promotion=Promotion(best=step.promote, random=step.promote_random, start=step.start),
        trials=step.promote + step.promote_random,
        halving=None,
        # They are few, and what a user came for.
        keep_weights="none" if first.keep_weights == "none" else "all",
    )


def _fidelity(file: YamlFile, step: Any, deployed: Resolution) -> Fidelity:
    """Return a step's fidelity, in the shape of what is deployed.

    Weights that lie beside the file, also as a trial's, are meant relative to it.
    """
    values = {field.name: getattr(step, field.name) for field in fields(Fidelity)}
    if step.weights and (file.path.parent / re.sub(r":\d+$", "", step.weights)).exists():
        values["weights"] = str(file.path.parent / step.weights)
    return Fidelity(**values).shaped(deployed)


def _check_steps(file: YamlFile, steps: Sequence[Any]) -> None:
    for number, step in enumerate(steps):
        at: Location = ("fidelities", number)
        if number == 0:
            for key in step.model_fields_set & set(Promoted.model_fields):
                raise file.error((*at, key), f"{key} says who comes from the fidelity before; this is the first.")
        elif "name" not in step.model_fields_set:
            raise file.error(at, "the second and later fidelities have a name of their own (name: full).")
        elif step.promote is None:
            raise file.error(at, "how many candidates come from the fidelity before? Say promote: 5.")
        if step.weights and step.start == "weights":
            message = "start: weights begins with those of the fidelity before: leave one of the two out."
            raise file.error((*at, "weights"), message)
        if step.name in [earlier.name for earlier in steps[:number]]:
            raise file.error((*at, "name"), f"two fidelities are called {step.name!r}; names tell them apart.")
        if re.fullmatch(r"[\w-]+", step.name) is None:
            message = f"a fidelity's name is letters, digits, '-' and '_'; got {shorten(step.name)}."
            raise file.error((*at, "name"), message)


def _with_anchors(file: YamlFile, said: StudyFile, space: SearchSpace) -> tuple[SearchSpace, int]:
    """Return the space with the study's anchors, and how many recipes are drawn for each."""
    anchors = said.anchors
    if not isinstance(anchors, Anchors):
        return (space if anchors is None else with_anchors(file, ("anchors",), anchors, space)), 0
    if anchors.names is not None:
        space = with_anchors(file, ("anchors", "names"), anchors.names, space)
    if anchors.recipe == "base":
        return space, 0
    if len(said.fidelities or ()) > 1:
        raise file.error(("anchors", "recipe"), "the recipes of anchors are searched in a study of one fidelity.")
    return space, anchors.trials


def _baselines(file: YamlFile, said: StudyFile, predicted: Mapping[str, Any]) -> tuple[str, ...]:
    for number, name in enumerate(said.baselines):
        if not name.startswith(TIMM):
            raise file.error(("baselines", number), f"a baseline is a model of timm's, as {TIMM}NAME; got {name!r}.")
    if said.baselines and predicted:
        message = f"baselines are timed on this machine: {', '.join(predicted)} of theirs cannot be predicted."
        raise file.error(("baselines",), message)
    int8 = [name for name in (*said.objectives, *said.constraints) if name.startswith("int8_")]
    if said.baselines and int8:
        message = f"only networks of the space are made int8: leave baselines out, or {', '.join(int8)}."
        raise file.error(("baselines",), message)
    return tuple(dict.fromkeys(said.baselines))


def _check_baselines(file: YamlFile, said: StudyFile, specs: Sequence[StudySpec]) -> None:
    """Refuse models that timm does not have, or that do not take the images of every fidelity and of deployment."""
    pixels = {size for spec in specs for size in (spec.fidelity.resolution, spec.space.resolution)}
    for number, name in enumerate(said.baselines):
        from starsearch.families.timm_module import check_baseline

        try:
            check_baseline(name.removeprefix(TIMM), num_classes=1, resolutions=pixels)
        except StarsearchError as error:
            raise file.error(("baselines", number), str(error)) from None


def _recipe(
    file: YamlFile, said: StudyFile, fidelity: Fidelity, space: SearchSpace, number: int
) -> tuple[Recipe, SearchSpace]:
    """Return a fidelity's recipe with the study's changes, and the space with what is searched of it."""
    _find(file, ("fidelities", number, "recipe"), fidelity.recipe, "recipes")
    base = load_recipe(fidelity.recipe, beside=file.path.parent)
    if fidelity.epochs is not None and "epochs" in said.recipe.model_fields_set:
        raise file.error(
            ("recipe", "epochs"), f"the fidelity {fidelity.name!r} sets the epochs ({fidelity.epochs}); say them there."
        )
    recipe, searched = change_recipe(file, said.recipe, base)
    if recipe.batch_size % fidelity.accumulate:
        raise file.error(
            ("fidelities", number, "accumulate"),
            f"micro-batches divide batch_size {recipe.batch_size}; got {fidelity.accumulate}.",
        )
    space = replace(space, recipe_parameters=searched)
    for anchor in space.anchors[:1]:  # trained by the recipe as it is, which has to lie in the searched ranges
        try:
            space.encode(Candidate(architecture=presets()[anchor], recipe=recipe))
        except SpecError as error:
            raise file.error(("recipe",), str(error)) from None
    return recipe, space


def _halving(file: YamlFile, said: HalvingFile | None, spec: StudySpec) -> Halving | None:
    if said is None:
        return None
    at: Location = ("search", "halving")
    if any(parameter.name == "recipe.epochs" for parameter in spec.space.recipe_parameters):
        raise file.error(at, "rungs are epochs of one training: the recipe's epochs cannot be searched beside it.")
    epochs = spec.num_epochs
    if said.rungs is None:
        found = []
        while (epochs := epochs // said.eta) >= 1:
            found.append(Rung(epochs=epochs))
        if not found:
            raise file.error(
                at, f"a training of {spec.num_epochs} epochs has no room for a rung with eta {said.eta}: one fits "
                f"after {spec.num_epochs} / eta epochs. Give the fidelity more epochs, or list rungs."
            )  # fmt: skip
        return Halving(eta=said.eta, rungs=tuple(reversed(found)))
    rungs = tuple(Rung(epochs=one) if isinstance(one, int) else one for one in said.rungs)
    for number, (below, rung) in enumerate(pairwise((0, *(one.epochs for one in rungs)))):
        if not below < rung < epochs:
            raise file.error(
                (*at, "rungs", number),
                f"rungs ascend from 1 to less than the training's {epochs} epochs; "
                f"got {', '.join(str(one.epochs) for one in rungs)}.",
            )
    return Halving(eta=said.eta, rungs=rungs)


class _Quantities:
    """What a study optimises and constrains; `profiles` collects by name what predicts, and what a command calls it."""

    def __init__(self, file: YamlFile) -> None:
        self._file = file
        self.profiles: dict[str, tuple[DeviceProfile, str]] = {}

    def objective(self, name: str, said: Direction | Goal) -> Objective:
        at: Location = ("objectives", name)
        self._check(at, name, "objective")
        goal = said if isinstance(said, Goal) else Goal(direction=said)
        direction = QUANTITIES[LATENCY if is_latency(name) else name].direction
        assert direction is not None
        if goal.direction not in (None, direction):
            raise self._file.error(at, f"the direction of {name} is {direction}; got {goal.direction!r}.")
        return Objective(name=name, direction=direction, device=self._device(at, name, goal.device))

    def constraint(self, name: str, said: QuantityBounds, objectives: Mapping[str, Any]) -> Constraint:
        at: Location = ("constraints", name)
        self._check(at, name, "constraint")
        if name not in objectives:
            self._device(at, name, said.device)
        elif said.device is not None:
            message = f"{name} is an objective, which says its device; leave it out here."
            raise self._file.error((*at, "device"), message)
        return Constraint(name=name, low=said.min, high=said.max)

    def _check(self, at: Location, name: str, what: str) -> None:
        label = device_label(name)
        if label is None:
            check_known(self._file, at, what, name, tuple(QUANTITIES), f", and {LATENCY}@LABEL for a further device")
        elif re.fullmatch(r"[A-Za-z0-9_-]+", label) is None:
            raise self._file.error(at, f"a device's label is made of letters, digits, - and _; got {shorten(label)}.")

    def _device(self, at: Location, name: str, said: str | None) -> str | None:
        """Return the device of a quantity for the record: this machine, a profile's name, or None where it has none."""
        if not is_latency(name):
            if said is not None and not (name in _ON_THIS_MACHINE and said == THIS_MACHINE):
                raise self._file.error(at, f"{name} has no device; leave it out.")
            return THIS_MACHINE if name in _ON_THIS_MACHINE else None
        label = device_label(name)
        text = said or label or THIS_MACHINE
        if text == THIS_MACHINE:
            return THIS_MACHINE
        if said is None and (self._file.path.parent / f"{label}.yaml").is_file():  # fitted for this study, beside it
            text = f"{label}.yaml"
        profile, called = self._load_profile(at if said is None else (*at, "device"), text)
        self.profiles[name] = profile, called
        return profile.name

    def _load_profile(self, at: Location, text: str) -> tuple[DeviceProfile, str]:
        try:
            path = find_file(text, "profiles", beside=self._file.path.parent)
        except SpecError as error:
            message = f"a device is {THIS_MACHINE!r}, or a profile that `starsearch latency fit` has written. {error}"
            raise self._file.error(at, message) from None
        try:
            profile = load_profile(path)
        except StarsearchError as error:
            raise self._file.error(at, f"the profile cannot be used: {error}") from None
        return profile, path.stem if path.parent == shipped_folder("profiles") else str(path)

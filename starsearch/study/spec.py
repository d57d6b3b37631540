"""`StudySpec`: everything a study file (or a space file with the defaults) says, validated and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from starsearch.errors import StudyError, first_line
from starsearch.latency.prediction.profile import DeviceProfile
from starsearch.objective import THIS_MACHINE, Constraint, Objective, is_latency
from starsearch.recipe import Fidelity, Recipe, value_text
from starsearch.resolution import Between, Resolution
from starsearch.samplers import SAMPLERS
from starsearch.space import SearchSpace

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]
KeepWeights = Literal["front", "all", "none"]
Start = Literal["scratch", "weights"]
Open = Literal["sampler", "precision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Where a candidate's training stops until it is known whether it continues.

    Attributes:
        epochs: trained when it is reached.
        resolution: of the training up to it; None for the fidelity's.
        samples: training images used up to it; None for the fidelity's.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1), Le(10_000)]
    resolution: Annotated[Resolution, Between(8, 1024)] | None = None
    samples: Annotated[int, Ge(1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """Asynchronous successive halving: of the candidates that reach a rung, the best 1/η continue.

    Attributes:
        eta: η, at least 2.
        rungs: in ascending order; the end of the training is above the last.
    """

    eta: int
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Who comes from the fidelity before, and how.

    Attributes:
        best: candidates, by non-dominated rank and then by the hypervolume that would be lost without them.
        random: further ones, drawn from the rest: the best alone do not show how well the fidelity before ranks.
        start: "scratch", or "weights": the training begins with the weights that the fidelity before has trained.
    """

    best: int
    random: int = 0
    start: Start = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """A study at one fidelity, fully said; a file with several fidelities is as many of them.

    Attributes:
        name: the study's and its folder's; at later fidelities with the fidelity's name behind a dot.
        space: the architectures, and the recipe's searched fields.
        data: what `starsearch.data.open_data` takes: "digits", a folder, or a timm data-set name.
        recipe: how candidates are trained, where the space does not search it.
        fidelity: how much is spent on judging a candidate.
        objectives: at least one; two for an accuracy–latency front.
        constraints: on measured quantities; what breaks one is infeasible, not failed.
        profiles: what predicts a latency, by its name ("latency_ms@phone"); a latency that has none is measured on
            this machine.
        profile_files: by the same names, what a command calls the profile: its file, or a shipped profile's name.
        space_file: what a command calls the space, likewise.
        sampler: how candidates are chosen.
        trials: searched candidates to be judged, if only at the first rung; anchors and failures are not counted.
        seed: of sampling, training and subsets.
        halving: which candidates are trained to the end; None for all.
        promotion: who comes from the fidelity before; None at the first, where the sampler chooses.
        baselines: models of timm's ("timm:NAME") that are trained and timed like the anchors, and never proposed.
        anchor_recipes: further recipes, drawn from the searched ones, by which each anchor is trained.
        keep_weights: whose trained weights are kept: the front's and the anchors', all trials', or none's.
        left_open: what the file does not say and is a default of this version or machine; no part of the record.
    """

    name: str
    space: SearchSpace
    data: str
    recipe: Recipe
    fidelity: Fidelity
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    profiles: Mapping[str, DeviceProfile] = field(default_factory=dict)
    profile_files: Mapping[str, str] = field(default_factory=dict)
    space_file: str = "starnet"
    sampler: SamplerName = "tpe"
    trials: int = 16
    seed: int = 0
    halving: Halving | None = None
    promotion: Promotion | None = None
    baselines: tuple[str, ...] = ()
    anchor_recipes: int = 0
    keep_weights: KeepWeights = "front"
    left_open: frozenset[Open] = field(default=frozenset(), compare=False, repr=False)

    @property
    def num_anchor_trials(self) -> int:
        """The number of candidates that are anchors, with the recipes that are drawn for each, or baselines."""
        return len(self.space.anchors) * (1 + self.anchor_recipes) + len(self.baselines)

    @property
    def num_epochs(self) -> int:
        """The epochs of a candidate's whole training, cool-down included, by the study's recipe."""
        return (self.fidelity.epochs or self.recipe.epochs) + self.recipe.cooldown_epochs

    @property
    def quantities(self) -> tuple[str, ...]:
        """The names of all that is optimised or constrained, each once."""
        named = [objective.name for objective in self.objectives] + [one.name for one in self.constraints]
        return tuple(dict.fromkeys(named))

    @property
    def devices(self) -> dict[str, str]:
        """Of each latency that is optimised or constrained, "this-machine" or the name of the profile."""
        profiles = {name: profile.name for name, profile in self.profiles.items()}
        said = {objective.name: objective.device for objective in self.objectives if objective.device}
        measured = {name: THIS_MACHINE for name in self.quantities if is_latency(name)}
        return measured | profiles | said

    def describe(self) -> dict[str, str]:
        """Return in words, item by item, what has to stay as it is for trials to be comparable.

        How long and by which sampler the search runs, η, and whose weights are kept may change.
        """
        items = {f"recipe.{name}": value_text(value) for name, value in asdict(self.recipe).items()}
        items |= self.space.describe()  # searched fields of the recipe stand in place of its own
        items |= {f"fidelity.{name}": value_text(value) for name, value in asdict(self.fidelity).items()}
        for objective in self.objectives:
            on = f" on {objective.device}" if objective.device else ""
            items[f"objectives.{objective.name}"] = objective.direction + on
        for one in self.constraints:
            bounds = (("at least", one.low), ("at most", one.high))
            words = ", ".join(f"{most} {value_text(bound)}" for most, bound in bounds if bound is not None)
            items[f"constraints.{one.name}"] = words
        items |= {f"profiles.{name}": _describe_profile(profile) for name, profile in self.profiles.items()}
        if self.halving is not None:
            items["halving.rungs"] = "; ".join(_describe_rung(rung) for rung in self.halving.rungs)
        if self.promotion is not None and self.promotion.start != "scratch":
            items["promotion.start"] = self.promotion.start
        return items | {"seed": str(self.seed)}

    def resuming(self, begun: StudySpec) -> StudySpec:
        """Return the spec with what it leaves open as in the one that the study was begun with."""
        sampler = begun.sampler if "sampler" in self.left_open else self.sampler
        precision = begun.fidelity.precision if "precision" in self.left_open else self.fidelity.precision
        return replace(self, sampler=sampler, fidelity=replace(self.fidelity, precision=precision))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, but for the networks that its profiles were fitted to."""
        profiles = {name: replace(profile, samples=()) for name, profile in self.profiles.items()}
        spec = replace(self, profiles=profiles)
        found: dict[str, Any] = _adapter().dump_python(spec, mode="json", exclude={"left_open"})
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudySpec:
        """Return the spec that `to_json` has written; fields that an earlier version did not know have their defaults.

        Raises:
            StudyError: another version has written it, and this one cannot read it.
        """
        try:
            found: StudySpec = _adapter().validate_python(data)
        except ValueError as error:
            raise StudyError(f"The study was made by another version of starsearch: {first_line(error)}") from error
        return found


def _describe_rung(rung: Rung) -> str:
    less = {"px": rung.resolution, "images": rung.samples}
    return f"{rung.epochs} epochs" + "".join(f", {number} {unit}" for unit, number in less.items() if number)


def _describe_profile(profile: DeviceProfile) -> str:
    """Return name, device and a digest of what predictions follow from (not their interval or error)."""
    scale = None if profile.reference is None else profile.reference.ms
    rests_on = [sorted(profile.coefficients_ms.items()), profile.vector_width, profile.resolution, scale]
    digest = hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()[:12]
    return f"{profile.name} ({digest}) of {profile.device.text}"


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(StudySpec)

"""`StudySpec`: everything a study file (or a space file with the defaults) says, validated and frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starsearch.objective import Constraint, Objective
from starsearch.recipe import Fidelity, Recipe
from starsearch.space import SearchSpace

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "random", "qmc")
KeepWeights = Literal["front", "all", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """A study, fully said.

    Attributes:
        name: of the study, and of its folder.
        space: the architectures, and the recipe's searched fields.
        data: what `starsearch.data.open_data` takes: "digits", a folder, or a timm data-set name.
        recipe: what candidates are trained by, where the space does not search it.
        fidelity: how much is spent on judging a candidate.
        objectives: at least one; two for an accuracy–latency front.
        constraints: on measured quantities; what breaks one is infeasible, not failed.
        sampler: one of `SAMPLERS`.
        trials: finished searched trials the study shall have; anchors and failures are not counted.
        seed: of sampling, training and subsets.
        keep_weights: whose trained weights are kept: the front's and the anchors', all trials', or none's.
    """

    name: str
    space: SearchSpace
    data: str
    recipe: Recipe
    fidelity: Fidelity
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    sampler: str = "tpe"
    trials: int = 16
    seed: int = 0
    keep_weights: KeepWeights = "front"

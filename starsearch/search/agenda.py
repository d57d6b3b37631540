"""What a driver runs without asking the sampler: trials that were cut off, anchors, and the promoted."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starsearch.candidate import Candidate
from starsearch.families.family import presets
from starsearch.recipe import Recipe
from starsearch.records import recorded_candidate, unfinished
from starsearch.search.promoting import Below, Promoted, still_to_come
from starsearch.space.parameters import Value
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A candidate that runs without the sampler's choosing it.

    Attributes:
        candidate: what is evaluated.
        params: of the space, that decode to it.
        retry_of: number of the trial that was cut off.
        continues: number of the stopped trial with whose training that one went on.
        curve: what that one had reached, by epoch.
        promoted: where it comes from the fidelity below, what is known of it there.
    """

    candidate: Candidate
    params: Mapping[str, Value]
    retry_of: int | None = None
    continues: int | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    promoted: Promoted | None = None


def plan(spec: StudySpec, trials: Sequence[FrozenTrial], below: Below | None = None) -> list[Planned]:
    """The cut-off trials' candidates in the order of their numbers, the anchors that have no result, the promoted.

    An anchor that failed runs again when the study is resumed, since a front without it says nothing; other
    failed candidates do not.

    Raises:
        SpecError: the recipe's own value of a searched field is not in its range.
    """
    again = [
        Planned(
            candidate=recorded_candidate(trial, spec.recipe),
            params=trial.params,
            retry_of=trial.number,
            continues=trial.user_attrs.get("continues"),
            curve=trial.intermediate_values,
            promoted=_from_below(recorded_candidate(trial, spec.recipe), below),
        )
        for trial in unfinished(trials)
    ]
    complete = {recorded_candidate(t, spec.recipe).key for t in trials if t.state.name == "COMPLETE"}
    again = [planned for planned in again if planned.candidate.key not in complete]
    settled = complete | {planned.candidate.key for planned in again}
    anchors = [Candidate(architecture=presets()[name], recipe=spec.recipe, anchor=name) for name in spec.space.anchors]
    anchors += [replace(one, recipe=recipe) for one in anchors for recipe in _draw_recipes(spec, one)]
    again += [
        Planned(candidate=anchor, params=spec.space.encode(anchor), promoted=_from_below(anchor, below))
        for anchor in anchors
        if anchor.key not in settled
    ]
    promoted = [] if below is None else still_to_come(spec, below, trials)
    return again + [Planned(candidate=one.candidate, params=one.params, promoted=one) for one in promoted]


def _draw_recipes(spec: StudySpec, anchor: Candidate) -> list[Recipe]:
    """The same recipes whenever the study goes on, the first of them whatever their number."""
    rng = random.Random(f"recipes of {anchor.anchor} {spec.seed}")  # noqa: S311 — sampling, not secrets
    found = [spec.recipe]
    for _ in range(50 * spec.anchor_recipes):
        recipe = spec.space.decode(spec.space.sample(rng), spec.recipe).recipe
        if len(found) <= spec.anchor_recipes and recipe not in found:
            found.append(recipe)
    return found[1:]


def _from_below(candidate: Candidate, below: Below | None) -> Promoted | None:
    return None if below is None else below.by_key.get(candidate.key)

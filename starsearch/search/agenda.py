"""What a driver runs before it asks the sampler: trials that were cut off, then anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starsearch.architecture import ANCHORS
from starsearch.candidate import Candidate
from starsearch.records import recorded_candidate, unfinished
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
    """

    candidate: Candidate
    params: Mapping[str, Value]
    retry_of: int | None = None
    continues: int | None = None
    curve: Mapping[int, float] = field(default_factory=dict)


def plan(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[Planned]:
    """The cut-off trials' candidates in the order of their numbers, then the anchors that have no result.

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
        )
        for trial in unfinished(trials)
    ]
    complete = {recorded_candidate(t, spec.recipe).key for t in trials if t.state.name == "COMPLETE"}
    again = [planned for planned in again if planned.candidate.key not in complete]
    settled = complete | {planned.candidate.key for planned in again}
    anchors = [Candidate(architecture=ANCHORS[name], recipe=spec.recipe, anchor=name) for name in spec.space.anchors]
    return again + [
        Planned(candidate=anchor, params=spec.space.encode(anchor)) for anchor in anchors if anchor.key not in settled
    ]

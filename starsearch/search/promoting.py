"""Who comes to a fidelity from the one below it, in which order, and what is known of them there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from starsearch.architecture import ANCHORS
from starsearch.candidate import Candidate
from starsearch.measurement import Measurement, Reading
from starsearch.objective import is_latency
from starsearch.pareto import promotion_order
from starsearch.records import measured_afterwards, recorded_candidate, unfinished
from starsearch.search.outcome import Outcome, judge
from starsearch.search.tally import recall
from starsearch.space.parameters import Value
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.records import StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """A candidate that was judged at the fidelity below.

    Attributes:
        number: of its trial there; None where it was chosen otherwise.
        candidate: as it is trained here: searched fields of its recipe are kept, the others are this fidelity's.
        params: of the space, that decode to it.
        weights: trained there, with which its training begins here; None where it begins from scratch.
        known: latencies measured there: they are of the network, not of its weights.
    """

    number: int | None
    candidate: Candidate
    params: Mapping[str, Value]
    weights: Path | None
    known: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """What the fidelity below has come to.

    Attributes:
        ordered: the feasible searched candidates: those that are promoted, then who takes the place of one that fails.
        by_key: by the candidate's key, anchors included.
        count: how many are promoted.
    """

    ordered: tuple[Promoted, ...]
    by_key: Mapping[str, Promoted]
    count: int


def look_below(spec: StudySpec, *, below: StudySpec, record: StudyRecord, folder: Path | None) -> Below:
    """Who may come to the fidelity of `spec` from `below`'s.

    Args:
        spec: of the study they come to.
        below: of the study they come from.
        record: of the latter.
        folder: of the latter, where its weights lie.
    """
    assert spec.promotion is not None
    recorded = record.trials()
    ended = {one.number: one for one in recall(recorded, below, measured_afterwards(record.attributes()))}
    judged: list[tuple[Promoted, Outcome]] = []
    for trial in recorded:
        if trial.state.name == "COMPLETE":
            readings = ended[trial.number].measurements
            outcome = judge(readings, below.objectives, below.constraints)
            judged.append((_promoted(trial, readings, spec, folder), outcome))
    searched = [(one, outcome) for one, outcome in judged if one.candidate.anchor is None and outcome.feasible]
    ordered = tuple(_in_order(searched, spec)) if searched else ()
    by_key = {one.candidate.key: one for one, _ in judged}
    return Below(ordered=ordered, by_key=by_key, count=spec.promotion.best + spec.promotion.random)


def size_for(spec: StudySpec, below: Below, recorded: Sequence[FrozenTrial]) -> StudySpec:
    """`spec` with as many trials as are complete or are to come.

    Who was promoted stays when the fidelity below goes on and ranks anew; who is among the best then comes as well.
    """
    complete = {_key(trial, spec) for trial in recorded if trial.state.name == "COMPLETE" and not _is_anchor(trial)}
    wanted = {one.candidate.key for one in _not_failed(below, recorded, spec)[: below.count]}
    return replace(spec, trials=len(complete | wanted))


def still_to_come(spec: StudySpec, below: Below, recorded: Sequence[FrozenTrial]) -> list[Promoted]:
    """The promoted that have no trial here, then those that may take a failed one's place."""
    known = {_key(trial, spec) for trial in recorded}
    return [one for one in below.ordered if one.candidate.key not in known]


def _not_failed(below: Below, recorded: Sequence[FrozenTrial], spec: StudySpec) -> list[Promoted]:
    again = {trial.number for trial in unfinished(recorded)}
    complete = {_key(trial, spec) for trial in recorded if trial.state.name == "COMPLETE"}
    failed = {_key(t, spec) for t in recorded if t.state.name == "FAIL" and t.number not in again} - complete
    failed -= {_key(trial, spec) for trial in recorded if trial.number in again}
    return [one for one in below.ordered if one.candidate.key not in failed]


def _in_order(searched: Sequence[tuple[Promoted, Outcome]], spec: StudySpec) -> Iterator[Promoted]:
    """The best, some drawn from the rest, then the rest."""
    assert spec.promotion is not None
    signs = np.array([1.0 if objective.direction == "minimize" else -1.0 for objective in spec.objectives])
    order = promotion_order(np.array([outcome.values for _, outcome in searched], dtype=float) * signs)
    ranked = [searched[row][0] for row in order]
    best, rest = ranked[: spec.promotion.best], ranked[spec.promotion.best :]
    rng = random.Random(f"promotion {spec.seed} {spec.fidelity.name}")  # noqa: S311 — sampling, not secrets
    drawn = rng.sample(rest, min(spec.promotion.random, len(rest)))
    yield from best
    yield from drawn
    yield from (one for one in rest if one not in drawn)


def _promoted(trial: FrozenTrial, readings: Sequence[Reading], spec: StudySpec, folder: Path | None) -> Promoted:
    assert spec.promotion is not None
    file: str | None = trial.user_attrs.get("weights") if spec.promotion.start == "weights" else None
    return Promoted(
        number=trial.number,
        candidate=_candidate_here(trial, spec),
        params=trial.params,
        weights=folder / file if folder is not None and file is not None else None,
        known=tuple(one for one in readings if isinstance(one, Measurement) and is_latency(one.name)),
    )


def _candidate_here(trial: FrozenTrial, spec: StudySpec) -> Candidate:
    """The candidate of a trial of the fidelity below, as it is trained here."""
    anchor = trial.user_attrs.get("anchor")
    if anchor is not None:
        return Candidate(architecture=ANCHORS[anchor], recipe=spec.recipe, anchor=anchor)
    return spec.space.decode(trial.params, spec.recipe)


def _key(trial: FrozenTrial, spec: StudySpec) -> str:
    return recorded_candidate(trial, spec.recipe).key


def _is_anchor(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("anchor") is not None

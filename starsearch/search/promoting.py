"""Who comes to a fidelity from the one below it, in which order, and what is known of them there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from starsearch.candidate import Candidate
from starsearch.families.family import presets
from starsearch.measurement import Measurement, Reading
from starsearch.objective import is_latency
from starsearch.pareto import promotion_order
from starsearch.records import measured_afterwards, recorded_candidate, unfinished
from starsearch.records.measured import Measured
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
        ranked: the feasible searched candidates, in the order in which they go on.
        by_key: by the candidate's key, anchors included.
        measured: what was measured after trials had ended, by architecture's hash and name: it holds here as well.
    """

    ranked: tuple[Promoted, ...]
    by_key: Mapping[str, Promoted]
    measured: Measured = field(default_factory=Measured)


def look_below(spec: StudySpec, *, below: StudySpec, record: StudyRecord, folder: Path | None) -> Below:
    """Who may come to the fidelity of `spec` from `below`'s.

    Args:
        spec: of the study they come to.
        below: of the study they come from.
        record: of the latter.
        folder: of the latter, where its weights lie.
    """
    recorded = record.trials()
    measured = measured_afterwards(record.attributes(), recorded)
    ended = {one.number: one for one in recall(recorded, below, measured)}
    judged: list[tuple[Promoted, Outcome]] = []
    for trial in recorded:
        if trial.state.name == "COMPLETE":
            readings = ended[trial.number].measurements
            outcome = judge(readings, below.objectives, below.constraints)
            judged.append((_promoted(trial, readings, spec, folder), outcome))
    searched = [(one, outcome) for one, outcome in judged if one.candidate.anchor is None and outcome.feasible]
    by_key = {one.candidate.key: one for one, _ in judged}
    return Below(ranked=_rank(searched, spec), by_key=by_key, measured=measured)


def size_for(spec: StudySpec, below: Below, recorded: Sequence[FrozenTrial]) -> StudySpec:
    """`spec` with as many trials as are complete, were cut off, or are wanted.

    Who was promoted stays when the fidelity below goes on and ranks anew; who is among the best then comes as well.
    """
    begun = _begun(recorded, spec)
    return replace(spec, trials=len(begun | {one.candidate.key for one in _wanted(below, recorded, spec)}))


def still_to_come(spec: StudySpec, below: Below, recorded: Sequence[FrozenTrial]) -> list[Promoted]:
    """The wanted that have no trial here, then those that may take a failed one's place."""
    wanted = _wanted(below, recorded, spec)
    known = {_key(trial, spec) for trial in recorded}
    others = [one for one in below.ranked if one not in wanted]
    return [one for one in (*wanted, *others) if one.candidate.key not in known]


def _wanted(below: Below, recorded: Sequence[FrozenTrial], spec: StudySpec) -> list[Promoted]:
    """The best that have not failed, and some drawn from the rest: first of these who was drawn before."""
    assert spec.promotion is not None
    begun = _begun(recorded, spec)
    failed = {_key(trial, spec) for trial in recorded} - begun
    able = [one for one in below.ranked if one.candidate.key not in failed]
    best, rest = able[: spec.promotion.best], able[spec.promotion.best :]
    # By a number of its own for each, so that a longer list does not draw all anew.
    rest.sort(key=lambda one: (one.candidate.key not in begun, _lot(one, spec)))
    return [*best, *rest[: spec.promotion.random]]


def _lot(one: Promoted, spec: StudySpec) -> str:
    return hashlib.sha256(f"{spec.seed} {spec.fidelity.name} {one.candidate.key}".encode()).hexdigest()


def _begun(recorded: Sequence[FrozenTrial], spec: StudySpec) -> set[str]:
    """Keys of the searched candidates that are complete here, or were cut off and run again."""
    again = {trial.number for trial in unfinished(recorded)}
    return {
        _key(trial, spec)
        for trial in recorded
        if not _is_anchor(trial) and (trial.state.name in ("COMPLETE", "RUNNING") or trial.number in again)
    }


def _rank(searched: Sequence[tuple[Promoted, Outcome]], spec: StudySpec) -> tuple[Promoted, ...]:
    if not searched:
        return ()
    signs = np.array([1.0 if objective.direction == "minimize" else -1.0 for objective in spec.objectives])
    order = promotion_order(np.array([outcome.values for _, outcome in searched], dtype=float) * signs)
    return tuple(searched[row][0] for row in order)


def _promoted(trial: FrozenTrial, readings: Sequence[Reading], spec: StudySpec, folder: Path | None) -> Promoted:
    assert spec.promotion is not None
    starts = spec.promotion.start == "weights" and folder is not None
    # Where none were kept, a file that is not there: its evaluation says so, and nobody begins from scratch unawares.
    file: str = trial.user_attrs.get("weights", f"weights/trial-{trial.number}.safetensors")
    return Promoted(
        number=trial.number,
        candidate=_candidate_here(trial, spec),
        params=trial.params,
        weights=folder / file if starts and folder is not None else None,
        known=tuple(one for one in readings if isinstance(one, Measurement) and is_latency(one.name)),
    )


def _candidate_here(trial: FrozenTrial, spec: StudySpec) -> Candidate:
    """The candidate of a trial of the fidelity below, as it is trained here."""
    anchor = trial.user_attrs.get("anchor")
    if anchor is not None:
        return Candidate(architecture=presets()[anchor], recipe=spec.recipe, anchor=anchor)
    return spec.space.decode(trial.params, spec.recipe)


def _key(trial: FrozenTrial, spec: StudySpec) -> str:
    return recorded_candidate(trial, spec.recipe).key


def _is_anchor(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("anchor") is not None

"""Which candidates come to a fidelity from the one below it, in which order, and what is known of them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from starsearch.candidate import Candidate
from starsearch.objective import is_accuracy
from starsearch.pareto import FloatArray, promotion_order
from starsearch.search.evidence import all_observations, kept_evidence, task_of
from starsearch.search.planned import unfinished_trials
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

if TYPE_CHECKING:
    from starsearch.accuracy.evidence import Observation
    from starsearch.records.measured import Measured
    from starsearch.records.record import StudyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerFidelity:
    """What the fidelity below has found.

    Attributes:
        ranked: the feasible searched candidates as trials of this fidelity, the best first.
        by_key: all that were judged, anchors included, by the candidate's key.
        measured: what was measured after trials had ended; it is the network's, so it holds here as well.
    """

    ranked: tuple[Trial, ...]
    by_key: Mapping[str, Trial]
    measured: Measured

    def hand_over(self, trial: Trial) -> Trial:
        """Return a trial of this fidelity with what is known of its candidate from the one below."""
        below = self.by_key.get(trial.key)
        if below is None:
            return trial
        known = (*trial.known, *below.known)
        return replace(trial, promoted_from=below.promoted_from, start=below.start, known=known)

    def hand_over_measured(self, record: StudyRecord) -> None:
        """Write what was measured below to the record of this fidelity, where it is not measured yet."""
        known = record.measured()
        for (architecture, name), measurement in self.measured.items():
            if (architecture, name) not in known:
                record.keep_measured(architecture, measurement)


def look_below(spec: StudySpec, *, below: StudySpec, record: StudyRecord, folder: Path | None) -> LowerFidelity:
    """Return what may come to the fidelity of `spec` from the one of `below`, whose record and folder are given."""
    measured = record.measured()
    judged = [measured.latest(trial) for trial in record.trials() if trial.state == "complete"]
    here = {trial.number: _trial_here(trial, spec, folder) for trial in judged}
    searched = [trial for trial in judged if not trial.is_anchor and trial.is_feasible(below.constraints)]
    losses = np.array([trial.losses(spec.objectives) for trial in searched])
    if below.sampler == "auto" and searched:
        losses = expected_losses(below, judged, searched, evidence=kept_evidence(record.attributes()))
    return LowerFidelity(
        ranked=tuple(here[searched[row].number] for row in promotion_order(losses)) if searched else (),
        by_key={one.key: one for one in here.values()},
        measured=measured,
    )


def expected_losses(
    spec: StudySpec, judged: Sequence[Trial], asked: Sequence[Trial], *, evidence: Sequence[Observation] = ()
) -> FloatArray:
    """Return (n, m), the losses of `asked`, each accuracy as all results let expect it.

    These are the `judged`, the published ones, and those of another study. One noisy proxy says less of a network than
    it and all those like it.
    """
    from starsearch.accuracy.posterior import fit_posterior

    losses = np.array([trial.losses(spec.objectives) for trial in asked])
    for column, objective in enumerate(spec.objectives):
        told = all_observations(spec, judged, objective.name, evidence) if is_accuracy(objective.name) else []
        if any(one.task == task_of(spec) for one in told):
            posterior = fit_posterior(told, target=task_of(spec), seed=spec.seed)
            estimates = posterior.estimate([one.candidate.architecture for one in asked])
            losses[:, column] = [-one.mean for one in estimates]
    return losses


def promoted_trials(
    spec: StudySpec, lower: LowerFidelity, ended: Sequence[Trial], tries: int
) -> tuple[StudySpec, list[Trial]]:
    """Return `spec` with the number of trials it comes to, and the candidates for them that have no trial yet.

    Those that are wanted come first, then those that may take a failed one's place. What was promoted before stays when
    the fidelity below is resumed and ranks anew; what is among the best then comes as well.
    """
    assert spec.promotion is not None
    again = {trial.retry_of for trial in unfinished_trials(ended, tries)}
    begun = {one.key for one in ended if not one.is_anchor and (one.state == "complete" or one.number in again)}
    failed = {one.key for one in ended} - begun
    able = [one for one in lower.ranked if one.key not in failed]
    wanted, rest = able[: spec.promotion.best], able[spec.promotion.best :]
    # Each by a number of its own, so that a longer list does not draw all anew; first what was drawn before.
    lots = {one.key: sha256(f"{spec.seed} {spec.fidelity.name} {one.key}".encode()).hexdigest() for one in rest}
    rest.sort(key=lambda one: (one.key not in begun, lots[one.key]))
    wanted += rest[: spec.promotion.random]
    others = [one for one in lower.ranked if one not in wanted]
    known = {one.key for one in ended}
    coming = [one for one in (*wanted, *others) if one.key not in known]
    return replace(spec, trials=len(begun | {one.key for one in wanted})), coming


def _trial_here(below: Trial, spec: StudySpec, folder: Path | None) -> Trial:
    """Return the trial of a candidate that was judged at the fidelity below.

    Searched fields of its recipe are kept; the others are this fidelity's.
    """
    anchor = below.candidate.anchor
    if anchor is not None:
        candidate = Candidate(architecture=below.candidate.architecture, recipe=spec.recipe, anchor=anchor)
    else:
        candidate = spec.space.decode(below.params, spec.recipe)
    start = None
    if spec.promotion is not None and spec.promotion.start == "weights" and folder is not None:
        # Where none were kept, a file that is not there: the evaluation says so, instead of starting from scratch.
        start = folder / (below.weights or f"weights/trial-{below.number}.safetensors")
    return Trial(
        candidate=candidate,
        params=below.params,
        promoted_from=below.number,
        start=start,
        known=below.fixed_readings,
    )

"""`choose_estimated`: networks worth measuring, by an estimate of accuracy and a prediction of latency alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from starsearch.accuracy.evidence import published_observations
from starsearch.errors import EvaluationError, StudyError, counted
from starsearch.evaluators.estimate import EstimateEvaluator, estimate_top1
from starsearch.objective import IMAGENET_TOP1, miss
from starsearch.pareto import hypervolume, promotion_order
from starsearch.search.planned import anchor_trials
from starsearch.space.parameters import Value, draw
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

# About 1,600 networks in five seconds; more rounds find fronts that differ by less than the intervals.
_FIRST, _ROUNDS, _PARENTS, _CHILDREN = 500, 8, 48, 5


def choose_estimated(spec: StudySpec, judge: EstimateEvaluator, count: int, say: Callable[[str], None]) -> list[Trial]:
    """Return up to `count` trials, each with the most to add to the anchors and those before, found by mutation.

    Networks below everything published are not chosen: nothing is known there. Where none keeps the constraints, the
    nearest are chosen: measuring may show that they do.

    Args:
        judge: what estimates accuracy, and predicts the latencies of `spec` instead of measuring them.
        say: called with why networks were left out whose latency cannot be predicted.

    Raises:
        StudyError: there is no network to choose.
    """
    rng = random.Random(f"estimated {spec.seed}")  # noqa: S311 — sampling, not secrets
    anchors = list(anchor_trials(spec))
    drawn = [spec.space.sample(rng) for _ in range(_FIRST)] + [one.params for one in anchors]
    known: dict[str, Trial] = {}
    ranked: list[Trial] = []
    for _ in range(_ROUNDS):
        decoded = (Trial(candidate=spec.space.decode(one, spec.recipe), params=one, state="complete") for one in drawn)
        new = {trial.key: trial for trial in decoded}
        known |= {one.key: one for one in _judged((one for key, one in new.items() if key not in known), judge)}
        ranked = _ranked([one for one in known.values() if one.readings], spec)
        drawn = [_mutated(one.params, spec, rng) for one in ranked[:_PARENTS] for _ in range(_CHILDREN)]
    unknown = [one.reason for one in known.values() if not one.readings]
    if not ranked:
        below = "All are estimated below what is published, where nothing is known. Leave --accuracy out to train them."
        raise StudyError(f"No network of the space can be chosen. {unknown[0] if unknown else below}")
    if unknown:
        say(f"{len(unknown)} of {counted(len(known), 'network')} cannot be chosen. {unknown[0]}")
    chosen = _by_gain(ranked, spec, [known[one.key] for one in anchors if one.key in known], count)
    return [replace(one, state="running", readings=()) for one in chosen]


def _judged(trials: Iterable[Trial], judge: EstimateEvaluator) -> list[Trial]:
    """Return the trials with their readings; without any, but with the reason, where a latency cannot be predicted."""
    known = list(trials)
    found = []
    estimates = estimate_top1(judge.posterior, [one.candidate.architecture for one in known])
    for trial, estimate in zip(known, estimates, strict=True):
        try:
            found.append(replace(trial, readings=judge.untimed(trial.candidate.architecture, estimate)))
        except EvaluationError as error:
            found.append(replace(trial, reason=str(error)))
    return found


def _ranked(trials: list[Trial], spec: StudySpec) -> list[Trial]:
    """Return the trials above the least that is published: the feasible, the best first, else the nearest to that."""
    least = min(one.value for one in published_observations(spec.space.family))
    able = [
        one
        for one in trials
        if one.values[IMAGENET_TOP1] >= least and spec.space.broken_constraint(one.candidate.architecture) is None
    ]
    feasible = [one for one in able if one.is_feasible(spec.constraints)]
    if not feasible:
        limits = {name: limit for one in spec.constraints for name, limit in one.limits.items()}
        return sorted(able, key=lambda one: miss(one.violations(spec.constraints), limits))
    return [feasible[row] for row in promotion_order(np.array([one.losses(spec.objectives) for one in feasible]))]


def _by_gain(trials: list[Trial], spec: StudySpec, anchors: list[Trial], count: int) -> list[Trial]:
    """Return trials in the order in which each adds most hypervolume to the anchors and those before it."""
    keys = {one.key for one in anchors}
    left = [one for one in trials if one.key not in keys][: 4 * count]
    if not left:
        return []
    losses = {one.key: one.losses(spec.objectives) for one in (*anchors, *left)}
    worst = np.array(list(losses.values())).max(axis=0)
    reference = worst + 0.1 * np.abs(worst)
    front = [losses[one.key] for one in anchors]
    chosen: list[Trial] = []
    while left and len(chosen) < count:
        best = max(left, key=lambda one: hypervolume(np.array([*front, losses[one.key]]), reference))
        left.remove(best)
        chosen.append(best)
        front.append(losses[best.key])
    return chosen


def _mutated(params: Mapping[str, Value], spec: StudySpec, rng: random.Random) -> dict[str, Value]:
    """Return params with one or two of them drawn anew."""
    changed = rng.sample(spec.space.parameters, min(rng.choice((1, 1, 2)), len(spec.space.parameters)))
    return {**params, **{one.name: draw(one, rng) for one in changed}}

"""What a driver runs before it asks a sampler: trials that were cut off, and anchors."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from starsearch.candidate import Candidate
from starsearch.families.family import presets
from starsearch.families.text import parse_architecture
from starsearch.recipe import Recipe
from starsearch.study.spec import StudySpec
from starsearch.trial import INTERRUPTED, Trial

STOPPED = "The study stopped while it was evaluated."


class Losses:
    """How often each candidate was lost, with its worker or its driver, since it last trained further."""

    def __init__(self, ended: Iterable[Trial]) -> None:
        self._count = Counter[str]()
        self._furthest = Counter[str]()
        for trial in ended:
            self.add(trial)

    def add(self, trial: Trial) -> int:
        """Note a trial that has ended; return how often its candidate is lost by now."""
        key, epoch = trial.key, max(trial.curve, default=0)
        if epoch > self._furthest[key]:  # it has come further: it is not what its workers die of
            self._furthest[key], self._count[key] = epoch, 0
        self._count[key] += trial.lost and trial.reason not in (INTERRUPTED, STOPPED)
        return self._count[key]

    def settle(self, trial: Trial, tries: int) -> Trial:
        """Note a lost trial, and return it; where its candidate's tries are used up, as failed for good."""
        if self.add(trial) < tries:
            return trial
        return replace(trial, lost=False, reason=f"{trial.reason} That was the last of {tries} tries.")


def unfinished_trials(ended: Sequence[Trial], tries: int) -> list[Trial]:
    """Return a repetition of each trial that was cut off, unless a later trial repeats it or its tries are used up."""
    losses = Losses(())
    lost = {trial.key: losses.add(trial) for trial in ended}
    settled = {trial.retry_of for trial in ended}
    complete = {trial.key for trial in ended if trial.state == "complete"}
    return [
        trial.again()
        for trial in ended
        if trial.lost and trial.number not in settled and trial.key not in complete and lost[trial.key] < tries
    ]


def anchor_trials(spec: StudySpec) -> Iterator[Trial]:
    """Yield a trial of each anchor by the study's own recipe, by the recipes drawn for it, then of each baseline."""
    anchors = [Candidate(architecture=presets()[name], recipe=spec.recipe, anchor=name) for name in spec.space.anchors]
    anchors += [replace(one, recipe=recipe) for one in anchors for recipe in _draw_recipes(spec, one)]
    for anchor in anchors:
        yield Trial(candidate=anchor, params=spec.space.encode(anchor))
    for name in spec.baselines:
        yield Trial(candidate=Candidate(architecture=parse_architecture(name), recipe=spec.recipe, anchor=name))


def _draw_recipes(spec: StudySpec, anchor: Candidate) -> list[Recipe]:
    """Return the same recipes whenever the study is resumed, the first of them whatever their number."""
    rng = random.Random(f"recipes of {anchor.anchor} {spec.seed}")  # noqa: S311 — sampling, not secrets
    found = [spec.recipe]
    for _ in range(50 * spec.anchor_recipes):
        recipe = spec.space.decode(spec.space.sample(rng), spec.recipe).recipe
        if len(found) <= spec.anchor_recipes and recipe not in found:
            found.append(recipe)
    return found[1:]

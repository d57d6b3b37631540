"""`Unseen`: the candidates of a space that a study does not know yet."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from starsearch.space.parameters import Value
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

# Uniform draws before a space is taken for exhausted, or walked through where it has so few combinations.
_DRAWS = 200
_MAX_WALKED = 20_000


class Unseen:
    """Draws the candidates of a study's space that it does not know yet.

    Attributes:
        known: the keys of those it knows.
    """

    def __init__(self, spec: StudySpec, recorded: Sequence[Trial], *, seed: int) -> None:
        self.known = {trial.key for trial in recorded}
        self._spec = spec
        self._rng = random.Random(seed)  # noqa: S311 — sampling, not secrets
        self._walk: Iterator[Mapping[str, Value]] | None = None

    def decode(self, params: Mapping[str, Value]) -> Trial:
        """Return a trial of the candidate that `params` stand for."""
        return Trial(candidate=self._spec.space.decode(params, self._spec.recipe), params=params)

    def is_settled(self, trial: Trial) -> bool:
        """Whether the candidate is known or its architecture is not allowed."""
        candidate = trial.candidate
        broken = self._spec.space.broken_constraint(candidate.architecture, candidate.resolution)
        return trial.key in self.known or broken is not None

    def sample(self, draws: int) -> Iterator[Trial]:
        """Yield those of `draws` uniform draws, constraints satisfied, that are not known."""
        for _ in range(draws):
            trial = self.decode(self._spec.space.sample(self._rng))
            if trial.key not in self.known:
                yield trial

    def draw(self) -> Trial | None:
        """Draw a new candidate uniformly, or walk through a small space; None where none is found.

        None is exact where the parameters have at most 20,000 combinations. In a larger space it means that 200 uniform
        draws, constraints satisfied, were all known.
        """
        if (found := next(self.sample(_DRAWS), None)) is not None:
            return found
        if self._walk is None:
            self._walk = self._shuffled_combinations()
        trials = (self.decode(params) for params in self._walk)
        return next((trial for trial in trials if not self.is_settled(trial)), None)

    def _shuffled_combinations(self) -> Iterator[Mapping[str, Value]]:
        parameters = self._spec.space.parameters
        sizes = [_MAX_WALKED + 1 if one.values is None else len(one.values) for one in parameters]
        if math.prod(sizes) > _MAX_WALKED:
            return iter(())
        names = [one.name for one in parameters]
        every = [
            dict(zip(names, row, strict=True)) for row in itertools.product(*(one.values or () for one in parameters))
        ]
        self._rng.shuffle(every)
        return iter(every)

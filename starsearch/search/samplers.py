"""Samplers by name.

One ask with two objectives costs tpe 9 and 36 ms (at 100 and 1000 trials), nsga2 1 and 2 ms, gp 1.9 s and
more: tpe to a thousand trials or two, nsga2 beyond, gp where a candidate is dear and trials are few.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starsearch.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerKind:
    """A kind of sampler.

    Attributes:
        factory: makes it from a seed and the number of trials planned.
        max_asks: how often it is asked for a candidate that is new before one is drawn at random; what
            asking costs decides.
        learns: whether what has come out matters to it.
        generational: it must be asked even for a trial that others chose, or that trial joins no generation.
    """

    factory: Callable[[int, int], BaseSampler]
    max_asks: int
    generational: bool = False
    learns: bool = True

    def make(self, *, seed: int, trials: int) -> BaseSampler:
        """A sampler for a study of some `trials` trials."""
        from optuna.exceptions import ExperimentalWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of TPE's `group`, NSGA-III and QMC, for years
            return self.factory(seed, trials)


def find_sampler(name: str) -> SamplerKind:
    """The kind of sampler of this name.

    Raises:
        SpecError: there is none; the text lists those there are.
    """
    if name not in SAMPLERS:
        raise SpecError(f"Unknown sampler {name!r}.{did_you_mean(name, SAMPLERS)} Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def _make_tpe(seed: int, trials: int) -> BaseSampler:  # noqa: ARG001 — all kinds take both
    from optuna.samplers import TPESampler

    # Multivariate TPE suggests a third of the duplicates that univariate TPE does (200 trials of 4,096).
    return TPESampler(multivariate=True, group=True, seed=seed)


def _make_nsga2(seed: int, trials: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=_population_size(trials), seed=seed)


def _make_nsga3(seed: int, trials: int) -> BaseSampler:
    from optuna.samplers import NSGAIIISampler

    return NSGAIIISampler(population_size=_population_size(trials), seed=seed)


def _make_gp(seed: int, trials: int) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def _make_random(seed: int, trials: int) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _make_qmc(seed: int, trials: int) -> BaseSampler:  # noqa: ARG001
    from optuna.samplers import QMCSampler

    # Scrambled: with another seed a resumed study goes on by another sequence, not by the same again.
    return QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)


def _population_size(trials: int) -> int:
    """A first generation is random: some five generations must fit into the study, up to Optuna's default of 50."""
    return min(50, max(10, trials // 5))


SAMPLERS: dict[str, SamplerKind] = {
    "tpe": SamplerKind(factory=_make_tpe, max_asks=64),
    "nsga2": SamplerKind(factory=_make_nsga2, max_asks=256, generational=True),
    "nsga3": SamplerKind(factory=_make_nsga3, max_asks=256, generational=True),
    "gp": SamplerKind(factory=_make_gp, max_asks=3),
    "random": SamplerKind(factory=_make_random, max_asks=256, learns=False),
    "qmc": SamplerKind(factory=_make_qmc, max_asks=256, learns=False),
}

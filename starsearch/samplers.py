"""Samplers by name.

One ask with two objectives costs tpe 9 and 36 ms (at 100 and 1000 trials), nsga2 1 and 2 ms, gp 1.9 s and
more: tpe to a thousand trials or two, nsga2 beyond, gp where a candidate is expensive and trials are few.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerKind:
    """A kind of sampler.

    Attributes:
        factory: its class in optuna.samplers, or anything else that takes a seed and the options; None where no
            sampler of Optuna's is asked.
        options: its arguments, from the number of trials planned.
        max_asks: how often it is asked for a candidate that is new before one is drawn at random; what asking costs
            decides.
        learns: whether results matter to it.
        generational: whether it must be asked even for a trial that it did not propose, which else joins no generation.
    """

    factory: str | Callable[..., Any] | None
    max_asks: int = 1
    options: Callable[[int], dict[str, Any]] = lambda _trials: {}
    generational: bool = False
    learns: bool = True

    def make(self, *, seed: int, trials: int) -> Any:
        """Return a sampler for a study of about `trials` trials."""
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        factory: Any = getattr(samplers, self.factory) if isinstance(self.factory, str) else self.factory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of TPE's `group`, NSGA-III and QMC, for years
            return factory(seed=seed, **self.options(trials))


def _generations(trials: int) -> dict[str, Any]:
    """A first generation is random: some five generations must fit into the study, up to Optuna's default of 50."""
    return {"population_size": min(50, max(10, trials // 5))}


SAMPLERS: dict[str, SamplerKind] = {
    "auto": SamplerKind(factory=None),  # `starsearch.search.auto`
    # Multivariate TPE suggests a third of the duplicates that univariate TPE does (200 trials of 4,096).
    "tpe": SamplerKind(factory="TPESampler", options=lambda _: {"multivariate": True, "group": True}, max_asks=64),
    "nsga2": SamplerKind(factory="NSGAIISampler", options=_generations, max_asks=256, generational=True),
    "nsga3": SamplerKind(factory="NSGAIIISampler", options=_generations, max_asks=256, generational=True),
    "gp": SamplerKind(factory="GPSampler", max_asks=3),
    "random": SamplerKind(factory="RandomSampler", max_asks=256, learns=False),
    "qmc": SamplerKind(
        factory="QMCSampler",
        # Scrambled: with another seed a resumed study continues with another sequence, not with the same again.
        options=lambda _: {"scramble": True, "warn_independent_sampling": False},
        max_asks=256,
        learns=False,
    ),
}

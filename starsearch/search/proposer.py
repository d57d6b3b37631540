"""`Proposer`: candidates that the study does not know yet, from a sampler that sees only a mirror of the record."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starsearch.candidate import Candidate
from starsearch.records import parameter_distributions, quiet_optuna, recorded_candidate, sampler_attributes
from starsearch.search.outcome import Outcome
from starsearch.search.samplers import find_sampler
from starsearch.search.unseen import Params, UnseenDraw
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate to evaluate: with its params, and the mirror's trial that waits for its outcome."""

    candidate: Candidate
    params: Params
    asked: optuna.Trial


class Proposer:
    """Asks the sampler in an in-memory study that mirrors the record's finished trials.

    Suggestions that break a constraint or that the study knows already are answered in the mirror: the
    record never shows them, and sampling never reads the storage. Intermediate values are not mirrored:
    TPE crashes on them where there are two objectives. Optuna does not keep a sampler: its seed is
    the study's plus the number of recorded trials, lest a resumed study repeat its suggestions.
    """

    def __init__(self, spec: StudySpec, recorded: Sequence[FrozenTrial]) -> None:
        import optuna

        kind = find_sampler(spec.sampler)
        seed = spec.seed + len(recorded)
        self._space = spec.space
        self._recipe = spec.recipe
        self._kind = kind
        self._distributions = parameter_distributions(spec.space.parameters)
        self._draw_unseen = UnseenDraw(spec.space, random.Random(seed))  # noqa: S311 — sampling, not secrets
        # None: being evaluated, failed, or not allowed; such a candidate has no outcome to tell.
        self._known: dict[str, Outcome | None] = {}
        with quiet_optuna():
            self._mirror = optuna.create_study(
                directions=[objective.direction for objective in spec.objectives],
                sampler=kind.make(seed=seed, trials=spec.trials),
            )
        for trial in recorded:
            self._restore(trial)

    def propose(self) -> Proposal | None:
        """A candidate the study does not know; None where the space has no more."""
        for _ in range(self._kind.max_asks):
            asked = self._mirror.ask(self._distributions)
            candidate = self._space.decode(asked.params, self._recipe)
            if not self._is_settled(candidate):
                return self._begin(candidate, asked)
            self._answer(asked, self._known.get(candidate.key))
        params = self._draw_unseen(lambda params: self._is_settled(self._space.decode(params, self._recipe)))
        return None if params is None else self.adopt(self._space.decode(params, self._recipe), params)

    def adopt(self, candidate: Candidate, params: Params) -> Proposal:
        """A candidate that somebody else chose, so that the sampler learns from it."""
        self._mirror.enqueue_trial(dict(params))
        asked = self._mirror.ask(self._distributions)
        if self._kind.generational:
            _ = asked.relative_params
        return self._begin(candidate, asked)

    def tell(self, proposal: Proposal, outcome: Outcome) -> Mapping[str, Any]:
        """Answer a proposal; returns what the sampler noted on it and needs again when the study goes on."""
        self._known[proposal.candidate.key] = outcome
        return sampler_attributes(self._answer(proposal.asked, outcome))

    def tell_failed(self, proposal: Proposal) -> None:
        """Answer a proposal whose evaluation failed; it will not be proposed again."""
        self._answer(proposal.asked, None)

    def _is_settled(self, candidate: Candidate) -> bool:
        """Whether the candidate is known or its architecture is not allowed."""
        return candidate.key in self._known or self._space.broken_constraint(candidate.architecture) is not None

    def _begin(self, candidate: Candidate, asked: optuna.Trial) -> Proposal:
        self._known[candidate.key] = None
        return Proposal(candidate=candidate, params=asked.params, asked=asked)

    def _answer(self, asked: optuna.Trial, outcome: Outcome | None) -> FrozenTrial:
        from optuna.trial import TrialState

        if outcome is None:
            return self._mirror.tell(asked, state=TrialState.FAIL)
        for name, violation in outcome.constraints.items():
            asked.set_constraint(name, violation)
        return self._mirror.tell(asked, outcome.values)

    def _restore(self, trial: FrozenTrial) -> None:
        """Mirror a trial of the record; samplers look at complete ones only."""
        from optuna.trial import create_trial

        candidate = recorded_candidate(trial, self._recipe)
        if trial.state.name != "COMPLETE":
            self._known.setdefault(candidate.key, None)
            return
        self._known[candidate.key] = Outcome(values=tuple(trial.values), constraints=trial.constraints)
        self._mirror.add_trial(
            create_trial(
                values=trial.values,
                params=trial.params,
                distributions=self._distributions,
                system_attrs=sampler_attributes(trial),
                constraints=trial.constraints,
            )
        )

"""`Proposer`: candidates that the study does not know yet, from a sampler that sees only a mirror of the record."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starsearch.candidate import Candidate
from starsearch.records import parameter_distributions, quiet_optuna, recorded_candidate, sampler_attributes
from starsearch.records.measured import Measured, latest_readings
from starsearch.search.outcome import Outcome, judge
from starsearch.search.samplers import find_sampler
from starsearch.search.unseen import Params, UnseenDraw
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from starsearch.measurement import Reading

# TPE draws its first ten at random.
_FEWEST_LESSONS = 10
_NOTHING = Measured()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate to evaluate, with its params.

    Attributes:
        candidate, params: what is evaluated.
        asked: the mirror's trial that waits for its outcome; None where a stopped training goes on.
    """

    candidate: Candidate
    params: Params
    asked: optuna.Trial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """What the sampler can learn from one candidate; `attributes` are what it has noted itself."""

    params: Params
    outcome: Outcome
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Proposer:
    """Asks the sampler in an in-memory study that mirrors the record's finished trials.

    Suggestions that break a constraint or that the study knows already are answered in the mirror: the
    record never shows them, and sampling never reads the storage. Intermediate values are not mirrored:
    TPE crashes on them where there are two objectives. What was measured after trials had ended stands in for what was
    predicted, and corrects the other predictions. Optuna does not keep a sampler: its seed is
    the study's plus the number of recorded trials, lest a resumed study repeat its suggestions.

    With successive halving the mirror shows the values of one rung only, of everybody who has reached it, so that
    half-trained values never stand beside others: the highest rung (the end above them all) on which there are
    enough to learn from, as BOHB does (Falkner et al. 2018, section 3.2).
    """

    def __init__(self, spec: StudySpec, recorded: Sequence[FrozenTrial], measured: Measured = _NOTHING) -> None:
        kind = find_sampler(spec.sampler)
        seed = spec.seed + len(recorded)
        self._spec = spec
        self._measured = measured
        self._space = spec.space
        self._recipe = spec.recipe
        self._kind = kind
        self._distributions = parameter_distributions(spec.space.parameters)
        self._draw_unseen = UnseenDraw(spec.space, random.Random(seed))  # noqa: S311 — sampling, not secrets
        self._sampler = kind.make(seed=seed, trials=spec.trials)
        self._known: set[str] = set()
        rungs = spec.halving.rungs if spec.halving else ()
        # One above each other: the rungs, then the end of the training.
        self._lessons: list[dict[str, _Lesson]] = [{} for _ in range(len(rungs) + 1)]
        self._open: set[int] = set()  # trials of the present mirror that wait for an outcome
        for trial in recorded:
            self._restore(trial)
        self._level = self._best_level()
        self._mirror = self._make_mirror()

    def propose(self) -> Proposal | None:
        """A candidate the study does not know; None where the space has no more."""
        for _ in range(self._kind.max_asks):
            asked = self._mirror.ask(self._distributions)
            candidate = self._space.decode(asked.params, self._recipe)
            if not self._is_settled(candidate):
                return self._begin(candidate, asked)
            lesson = self._lessons[self._level].get(candidate.key)
            self._answer(asked, lesson.outcome if lesson else None)
        params = self._draw_unseen(lambda params: self._is_settled(self._space.decode(params, self._recipe)))
        return None if params is None else self.adopt(self._space.decode(params, self._recipe), params)

    def adopt(self, candidate: Candidate, params: Params) -> Proposal:
        """A candidate that somebody else chose, so that the sampler learns from it."""
        self._mirror.enqueue_trial(dict(params))
        asked = self._mirror.ask(self._distributions)
        if self._kind.generational:
            _ = asked.relative_params
        return self._begin(candidate, asked)

    def tell(self, proposal: Proposal, outcome: Outcome, *, rung: int | None = None) -> Mapping[str, Any]:
        """Answer a proposal; returns what the sampler noted on it and needs again when the study goes on.

        Args:
            proposal: that was evaluated.
            outcome: of the evaluation.
            rung: that it was stopped at; None where it was trained to the end.
        """
        level = len(self._lessons) - 1 if rung is None else rung
        is_shown = level == self._level
        key = proposal.candidate.key
        # Who goes on keeps what was noted when it was new: a generation, without which NSGA-II begins anew.
        attributes = next((found[key].attributes for found in self._lessons[:level] if key in found), {})
        if proposal.asked is not None and self._is_open(proposal.asked):
            attributes = sampler_attributes(self._answer(proposal.asked, outcome if is_shown else None))
        elif is_shown:
            lesson = _Lesson(params=proposal.params, outcome=outcome, attributes=attributes)
            self._mirror.add_trial(self._mirrored(lesson))
        self._lessons[level][key] = _Lesson(params=proposal.params, outcome=outcome, attributes=attributes)
        if self._best_level() > self._level:
            self._level = self._best_level()
            self._mirror = self._make_mirror()
        return attributes

    def tell_failed(self, proposal: Proposal) -> None:
        """Answer a proposal whose evaluation failed; it will not be proposed again."""
        if proposal.asked is not None and self._is_open(proposal.asked):
            self._answer(proposal.asked, None)

    def _is_settled(self, candidate: Candidate) -> bool:
        """Whether the candidate is known or its architecture is not allowed."""
        return candidate.key in self._known or self._space.broken_constraint(candidate.architecture) is not None

    def _is_open(self, asked: optuna.Trial) -> bool:
        """Whether the trial is of the present mirror and waits."""
        return asked.study is self._mirror and asked.number in self._open

    def _begin(self, candidate: Candidate, asked: optuna.Trial) -> Proposal:
        self._known.add(candidate.key)
        self._open.add(asked.number)
        return Proposal(candidate=candidate, params=asked.params, asked=asked)

    def _answer(self, asked: optuna.Trial, outcome: Outcome | None) -> FrozenTrial:
        from optuna.trial import TrialState

        self._open.discard(asked.number)
        if outcome is None:
            return self._mirror.tell(asked, state=TrialState.FAIL)
        for name, violation in outcome.constraints.items():
            asked.set_constraint(name, violation)
        return self._mirror.tell(asked, outcome.values)

    def _best_level(self) -> int:
        """The highest with enough lessons; as many as TPE draws at random, or three more than there are parameters."""
        if not self._kind.learns:
            return 0  # another mirror would only let a sequence begin anew
        fewest = max(_FEWEST_LESSONS, len(self._distributions) + 3)
        return max((level for level, found in enumerate(self._lessons) if len(found) >= fewest), default=0)

    def _make_mirror(self) -> optuna.Study:
        import optuna

        self._open.clear()
        with quiet_optuna():
            mirror = optuna.create_study(
                directions=[objective.direction for objective in self._spec.objectives], sampler=self._sampler
            )
        mirror.add_trials([self._mirrored(lesson) for lesson in self._lessons[self._level].values()])
        return mirror

    def _mirrored(self, lesson: _Lesson) -> FrozenTrial:
        from optuna.trial import create_trial

        return create_trial(
            values=lesson.outcome.values,
            params=dict(lesson.params),
            distributions=self._distributions,
            system_attrs=dict(lesson.attributes),
            constraints=dict(lesson.outcome.constraints),
        )

    def _judge(self, readings: Sequence[Reading]) -> Outcome:
        return judge(readings, self._spec.objectives, self._spec.constraints)

    def _restore(self, trial: FrozenTrial) -> None:
        """Learn from a trial of the record: from what it has reached in the end, or at a rung."""
        from starsearch.records import recorded_measurements

        candidate = recorded_candidate(trial, self._recipe)
        self._known.add(candidate.key)
        attributes = sampler_attributes(trial)
        if trial.state.name == "COMPLETE":
            outcome = self._judge(latest_readings(trial.user_attrs, self._measured))
            lesson = _Lesson(params=trial.params, outcome=outcome, attributes=attributes)
            self._lessons[-1][candidate.key] = lesson
        elif trial.state.name == "PRUNED" and self._spec.halving:
            outcome = self._judge(self._measured.corrected(recorded_measurements(trial)))
            lesson = _Lesson(params=trial.params, outcome=outcome, attributes=attributes)
            self._lessons[trial.user_attrs["rung"]][candidate.key] = lesson

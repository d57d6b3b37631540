"""`Proposer`: candidates that the study does not know yet, from a sampler that sees only a mirror of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starsearch.records.storage import quiet_optuna
from starsearch.records.trials import parameter_distributions, sampler_attributes
from starsearch.samplers import SAMPLERS
from starsearch.search.unseen import Unseen
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_FEWEST_TO_LEARN_FROM = 10  # as many as TPE draws at random


class Proposer:
    """Asks the sampler in an in-memory study that mirrors the record's finished trials.

    Suggestions that break a constraint or that the study knows already are answered in the mirror: the record never
    shows them, and sampling never reads the storage. Intermediate values are not mirrored: TPE crashes on them where
    there are two objectives. Trials come with what was measured after they had ended in place of what was predicted.
    Optuna does not keep a sampler: its seed is the study's plus the number of recorded trials, so that a resumed study
    does not repeat its suggestions.

    With successive halving the mirror shows the values of one rung only, of all that have reached it, so that
    half-trained values never stand beside others: the highest rung (the end above them all) on which there are
    enough to learn from, as BOHB does (Falkner et al. 2018, section 3.2).
    """

    expected: None = None  # it does not estimate what trials at a rung come to

    def __init__(self, spec: StudySpec, recorded: Sequence[Trial]) -> None:
        seed = spec.seed + len(recorded)
        self._spec = spec
        self._kind = SAMPLERS[spec.sampler]
        self._distributions = parameter_distributions(spec.space.parameters)
        self._unseen = Unseen(spec, recorded, seed=seed)
        self._is_exhausted = False
        self._sampler = self._kind.make(seed=seed, trials=spec.trials)
        # By the candidate's key, one dict a level: the rungs, then the end of the training.
        num_levels = 1 + (len(spec.halving.rungs) if spec.halving else 0)
        self._results: list[dict[str, Trial]] = [{} for _ in range(num_levels)]
        for trial in recorded:
            if trial.has_result:
                self._results[self._level_of(trial)][trial.key] = trial
        self._untrained = [trial for trial in recorded if trial.untrained and trial.params]
        self._level = self._best_level()
        self.mirror = self._make_mirror()

    def propose(self) -> Trial | None:
        """Return a trial of a candidate that the study does not know; None where the space has no more."""
        if self._is_exhausted:  # what is known is never unknown again
            return None
        for _ in range(self._kind.max_asks):
            asked = self.mirror.ask(self._distributions)
            trial = self._unseen.decode(asked.params)
            if not self._unseen.is_settled(trial):
                self._unseen.known.add(trial.key)
                self._asked[trial.key] = asked
                return trial
            self._answer(asked, self._results[self._level].get(trial.key))
        unseen = self._unseen.draw()
        self._is_exhausted = unseen is None
        return unseen

    def adopt(self, trial: Trial) -> str:
        """Let the sampler learn from a trial that begins without its proposal; return why it does, "" as unknown."""
        if trial.key in self._asked or trial.continues is not None:  # it was told of the rung below
            return ""
        self.mirror.enqueue_trial(dict(trial.params))
        asked = self.mirror.ask(self._distributions)
        if self._kind.generational:
            _ = asked.relative_params
        self._unseen.known.add(trial.key)
        self._asked[trial.key] = asked
        return ""

    def tell(self, trial: Trial) -> Mapping[str, Any]:
        """Note how a trial ended; return what the sampler noted on it and needs again when the study is resumed."""
        asked = self._asked.pop(trial.key, None)
        if not trial.has_result:  # it will not be proposed again
            if asked is not None:
                self._answer(asked, trial if trial.untrained else None)
            if trial.untrained:
                self._untrained.append(trial)
            return {}
        level = self._level_of(trial)
        # A continued trial keeps what was noted when it was new: a generation, without which NSGA-II begins anew.
        below = (found[trial.key].noted for found in self._results[:level] if trial.key in found)
        noted = next(below, {})
        if asked is not None:
            answered = self._answer(asked, trial if level == self._level else None)
            noted = sampler_attributes(answered) if self._kind.generational else {}
        elif level == self._level:
            self.mirror.add_trial(self._mirrored(replace(trial, noted=noted)))
        self._results[level][trial.key] = replace(trial, noted=noted)
        if self._best_level() > self._level:
            self._level = self._best_level()
            self.mirror = self._make_mirror()
        return noted

    def _answer(self, asked: optuna.Trial, trial: Trial | None) -> FrozenTrial:
        from optuna.trial import TrialState

        if trial is None:
            return self.mirror.tell(asked, state=TrialState.FAIL)
        for name, violation in trial.violations(self._spec.constraints).items():
            asked.set_constraint(name, violation)
        if trial.untrained:  # what it breaks is learned from, without values
            return self.mirror.tell(asked, state=TrialState.PRUNED)
        return self.mirror.tell(asked, self._values(trial))

    def _values(self, trial: Trial) -> list[float]:
        return [trial.values[objective.name] for objective in self._spec.objectives]

    def _level_of(self, trial: Trial) -> int:
        return len(self._results) - 1 if trial.state == "complete" or trial.rung is None else trial.rung

    def _best_level(self) -> int:
        """Return the highest level with enough trials: ten, or three more than there are parameters."""
        if not self._kind.learns:
            return 0  # another mirror would only let a sequence begin anew
        fewest = max(_FEWEST_TO_LEARN_FROM, len(self._distributions) + 3)
        return max((level for level, found in enumerate(self._results) if len(found) >= fewest), default=0)

    def _make_mirror(self) -> optuna.Study:
        import optuna

        self._asked: dict[str, optuna.Trial] = {}  # trials of this mirror that wait for a result, by candidate
        with quiet_optuna():
            mirror = optuna.create_study(
                directions=[objective.direction for objective in self._spec.objectives], sampler=self._sampler
            )
        mirror.add_trials([self._mirrored(one) for one in (*self._results[self._level].values(), *self._untrained)])
        return mirror

    def _mirrored(self, trial: Trial) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        return create_trial(
            state=TrialState.PRUNED if trial.untrained else TrialState.COMPLETE,
            values=None if trial.untrained else self._values(trial),
            params=dict(trial.params),
            distributions=self._distributions,
            system_attrs=dict(trial.noted),
            constraints=trial.violations(self._spec.constraints),
        )

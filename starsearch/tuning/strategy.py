"""What proposes recipes to Ray Tune and what stops them: OptunaSearch, ASHA, Population Based Training.

With one objective Ray Tune is at its best; the architecture search has two, and an ask/tell driver of its own: with two
Ray Tune's OptunaSearch tells half-trained values as complete, and ASHA takes no two metrics.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from starsearch.records.storage import quiet_optuna
from starsearch.records.trials import parameter_distributions
from starsearch.samplers import SamplerKind
from starsearch.space import ChoiceParameter, Parameter
from starsearch.space.parameters import on_grid
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial
from starsearch.tuning.space import BASE_RECIPE

Scheduler = Literal["asha", "pbt", "none"]
Strategy = tuple[dict[str, Any], Any, Any]
METRIC = "top1_percent"
EPOCH = "epoch"
ETA = 3
_STUDY = "recipes"
# Recipes are trained side by side. A third is drawn at random; Optuna's 10 were most of 16.
_TPE = SamplerKind(
    factory="TPESampler",
    options=lambda wanted: {
        "multivariate": True,
        "constant_liar": True,
        "n_startup_trials": min(10, max(4, wanted // 3)),
    },
)


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Return the epochs at which ASHA looks at a training of so many: a fifth, then each η times the one before.

    Not sooner: in the warm-up, and with a moving average that has not caught up, every recipe looks bad that is good
    at the end.
    """
    rungs = [math.ceil(epochs / 5)]
    while rungs[-1] * ETA < epochs:
        rungs.append(rungs[-1] * ETA)
    return tuple(rung for rung in rungs if rung < epochs)


class _Searcher(OptunaSearch):
    """OptunaSearch that tells Optuna a stopped training as pruned, not its half-trained accuracy as the whole's."""

    def __init__(self, *, epochs: int, **options: Any) -> None:
        super().__init__(**options)
        self._epochs = epochs

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        stopped = result is not None and result[EPOCH] < self._epochs
        super().on_trial_complete(trial_id, None if stopped else result, error)


class _SparingAsha(ASHAScheduler):
    """ASHA that lets the base recipe train to its end: the best is compared with it."""

    def __init__(self, spared: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._spared = dict(spared)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        spared = trial.config == self._spared and result[EPOCH] < self._max_t
        return TrialScheduler.CONTINUE if spared else decision


def make_strategy(spec: StudySpec, scheduler: Scheduler, trials: Sequence[Trial], base: Mapping[str, Any]) -> Strategy:
    """Return Tune's parameter space, search algorithm and scheduler for a study with these `trials`.

    Its `base` recipe comes first, unless it was tried; one that failed by its own fault is not tried again.
    """
    has_base = any(trial.candidate.anchor == BASE_RECIPE and not trial.lost for trial in trials)
    first, epochs = [] if has_base else [dict(base)], spec.num_epochs
    seed = spec.seed + len(trials)  # of its own for every run: the same would replay its suggestions
    if scheduler == "pbt":
        return _population(spec, first, seed)
    asha = _SparingAsha(
        base,
        time_attr=EPOCH,
        metric=METRIC,
        mode="max",
        max_t=epochs,
        grace_period=min([*rungs_of(epochs), epochs]),
        reduction_factor=ETA,
    )
    return {}, _searcher(spec, trials, first, seed), asha if scheduler == "asha" else None


def _searcher(spec: StudySpec, trials: Sequence[Trial], first: list[dict[str, Any]], seed: int) -> OptunaSearch:
    """Return TPE that knows the record's `trials` and proposes `first` before its own."""
    import optuna

    sampler = _TPE.make(seed=seed, trials=spec.trials)
    storage = optuna.storages.InMemoryStorage()  # Tune's own; the record is written by this driver alone
    distributions = parameter_distributions(spec.space.parameters)
    with quiet_optuna():
        study = optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize", sampler=sampler)
        for trial in trials:
            if trial.has_result and trial.params:
                known = optuna.trial.create_trial(
                    state=optuna.trial.TrialState[trial.state.upper()],
                    value=trial.values[METRIC] if trial.state == "complete" else None,
                    params=dict(trial.params),
                    distributions=distributions,
                    intermediate_values=dict(trial.curve),
                )
                study.add_trial(known)
        return _Searcher(
            epochs=spec.num_epochs,
            space=distributions,
            metric=METRIC,
            mode="max",
            points_to_evaluate=first,
            sampler=sampler,
            storage=storage,
            study_name=_STUDY,
        )


def _population(spec: StudySpec, first: list[dict[str, Any]], seed: int) -> Strategy:
    """Return what draws a population after `first`, and the Population Based Training that mutates it."""
    parameters = spec.space.parameters
    random.seed(seed)  # PBT draws its mutations from Python's global state
    scheduler = PopulationBasedTraining(
        time_attr=EPOCH,
        metric=METRIC,
        mode="max",
        perturbation_interval=max(1, spec.num_epochs // 6),  # some five decisions in a training
        # A list, in which PBT goes to a neighbour, or a continuum, in which it multiplies by 0.8 or 1.2.
        hyperparam_mutations={one.name: list(one.values or ()) or _domain(one) for one in parameters},
        custom_explore_fn=lambda config: {one.name: _into(one, config[one.name]) for one in parameters},
        log_config=False,
    )
    generator = BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    return {one.name: _domain(one) for one in parameters}, generator, scheduler


def _domain(parameter: Parameter) -> Any:
    from ray import tune

    if parameter.values:
        return tune.choice(list(parameter.values))
    assert not isinstance(parameter, ChoiceParameter)
    draw = tune.loguniform if parameter.log else tune.uniform
    return draw(parameter.low, parameter.high)


def _into(parameter: Parameter, value: Any) -> Any:
    """The nearest value inside: PBT multiplies beyond a range's ends."""
    if isinstance(parameter, ChoiceParameter):
        return value
    return on_grid(parameter, min(max(value, parameter.low), parameter.high))

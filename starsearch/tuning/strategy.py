"""What proposes recipes to Ray Tune and what stops them: OptunaSearch, ASHA, Population Based Training.

With one objective Ray Tune is at its best; the architecture search has two, and an ask/tell driver of its own: with two
Ray Tune's OptunaSearch tells half-trained values as complete, and ASHA takes no two metrics.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from starsearch.records.storage import quiet_optuna
from starsearch.records.trials import parameter_distributions
from starsearch.space import ChoiceParameter, Parameter, SearchSpace
from starsearch.space.parameters import on_grid
from starsearch.trial import Trial

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

METRIC = "top1_percent"
EPOCH = "epoch"
ETA = 3
_STUDY = "recipes"


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


def make_searcher(
    space: SearchSpace,
    trials: Sequence[Trial],
    *,
    first: Sequence[Mapping[str, Any]],
    epochs: int,
    wanted: int,
    seed: int,
) -> OptunaSearch:
    """Return TPE that knows the record's `trials` and proposes `first` before its own; `wanted` are planned."""
    import optuna

    # A seed of its own for every run: the same would replay its suggestions.
    sampler = _make_tpe(seed=seed + len(trials), wanted=wanted)
    storage = optuna.storages.InMemoryStorage()  # Tune's own; the record is written by this driver alone
    with quiet_optuna():
        study = optuna.create_study(storage=storage, study_name=_STUDY, direction="maximize", sampler=sampler)
        study.add_trials([_as_optuna(trial, space) for trial in trials if trial.has_result and trial.params])
        return _Searcher(
            epochs=epochs,
            space=parameter_distributions(space.parameters),
            metric=METRIC,
            mode="max",
            points_to_evaluate=[dict(params) for params in first],
            sampler=sampler,
            storage=storage,
            study_name=_STUDY,
        )


def _as_optuna(trial: Trial, space: SearchSpace) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState[trial.state.upper()],
        value=trial.values["top1_percent"] if trial.state == "complete" else None,
        params=dict(trial.params),
        distributions=parameter_distributions(space.parameters),
        intermediate_values=dict(trial.curve),
    )


def _make_tpe(*, seed: int, wanted: int) -> BaseSampler:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of `multivariate` and `constant_liar`, for years
        return TPESampler(
            multivariate=True,
            constant_liar=True,  # recipes are trained side by side
            n_startup_trials=min(10, max(4, wanted // 3)),  # a third at random; Optuna's 10 were most of 16
            seed=seed,
        )


class _SparingAsha(ASHAScheduler):
    """ASHA that lets the base recipe train to its end: the best is compared with it."""

    def __init__(self, spared: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._spared = dict(spared)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        spared = trial.config == self._spared and result[EPOCH] < self._max_t
        return TrialScheduler.CONTINUE if spared else decision


def make_asha(*, spared: Mapping[str, Any], epochs: int) -> ASHAScheduler:
    """Return ASHA over epochs; the rungs know the trainings of this run alone."""
    return _SparingAsha(
        spared,
        time_attr=EPOCH,
        metric=METRIC,
        mode="max",
        max_t=epochs,
        grace_period=min([*rungs_of(epochs), epochs]),
        reduction_factor=ETA,
    )


def population_interval(epochs: int) -> int:
    """Return the epochs between two decisions of Population Based Training: some five of them in a training."""
    return max(1, epochs // 6)


def make_population(
    space: SearchSpace, *, first: Sequence[Mapping[str, Any]], epochs: int, seed: int
) -> tuple[dict[str, Any], BasicVariantGenerator, PopulationBasedTraining]:
    """Return Tune's parameter space, what draws the population from it after `first`, and what mutates it."""
    domains = {parameter.name: _domain(parameter) for parameter in space.parameters}
    generator = BasicVariantGenerator(points_to_evaluate=[dict(params) for params in first], random_state=seed)
    random.seed(seed)  # PBT draws its mutations from Python's global state
    scheduler = PopulationBasedTraining(
        time_attr=EPOCH,
        metric=METRIC,
        mode="max",
        perturbation_interval=population_interval(epochs),
        # A list, in which PBT goes to a neighbour, or a continuum, in which it multiplies by 0.8 or 1.2.
        hyperparam_mutations={one.name: _listed(one) or _domain(one) for one in space.parameters},
        custom_explore_fn=lambda config: {one.name: _into(one, config[one.name]) for one in space.parameters},
        log_config=False,
    )
    return domains, generator, scheduler


def _domain(parameter: Parameter) -> Any:
    from ray import tune

    if values := _listed(parameter):
        return tune.choice(values)
    assert not isinstance(parameter, ChoiceParameter)
    draw = tune.loguniform if parameter.log else tune.uniform
    return draw(parameter.low, parameter.high)


def _listed(parameter: Parameter) -> list[Any]:
    """All values in order; empty for a continuum."""
    return list(parameter.values or ())


def _into(parameter: Parameter, value: Any) -> Any:
    """The nearest value inside: PBT multiplies beyond a range's ends."""
    if isinstance(parameter, ChoiceParameter):
        return value
    return on_grid(parameter, min(max(value, parameter.low), parameter.high))

"""StarBench for other tools: a blackbox of Syne Tune, and a benchmark problem as OptunaHub has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from starsearch.bench.judge import Judge
from starsearch.errors import ExportError, SpecError
from starsearch.families.family import Architecture
from starsearch.records.trials import parameter_distributions
from starsearch.space.parameters import IntParameter, Parameter, Value, allows
from starsearch.space.space import constrained_quantity

if TYPE_CHECKING:
    import optuna

_METRICS = ("metric_top1_error_percent", "metric_latency_ms", "metric_elapsed_time")


def write_syne_tune(table: Path, fidelity: str, out: Path) -> Path:
    """Write the table's networks as a blackbox of Syne Tune (Salinas et al. 2022); return the folder.

    Its configurations are the space's parameters, its fidelity the epochs, its objectives the top-1 error in percent,
    the latency in milliseconds and the seconds so far, all to be minimised. It has the table's three seeds; where a
    network was not trained by one, its curve is its mean with the seed's effect. Syne Tune's `deserialize` reads it.

    Raises:
        ExportError: Syne Tune, or fastparquet with which it writes, is not installed.
        StudyError: the table has too few rows.
    """
    try:
        import fastparquet  # noqa: F401 — only looked for: Syne Tune writes by it
        from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular, serialize
        from syne_tune.config_space import randint
    except ImportError as error:
        raise ExportError(
            f"A blackbox is written by Syne Tune with fastparquet: {error}. pip install 'starnet-search[bench]'"
        ) from error
    judge = Judge(table, fidelity)
    judged = [judge.judge(one) for one in judge.networks]
    num_epochs = judge.curves.shape[-1]
    elapsed = np.outer([one.seconds for one in judged], np.arange(1, num_epochs + 1) / num_epochs)
    latency = np.array([one.latency_ms for one in judged])
    objectives = np.broadcast_arrays(100 - judge.curves, latency[:, None, None], elapsed[:, None])
    blackbox = BlackboxTabular(
        hyperparameters=pd.DataFrame([judge.space.encode_architecture(one) for one in judge.networks]),
        configuration_space={one.name: _syne_tune_domain(one) for one in judge.space.parameters},
        fidelity_space={"epochs": randint(1, num_epochs)},
        objectives_evaluations=np.stack(objectives, axis=-1),
        objectives_names=list(_METRICS),
    )
    out.mkdir(parents=True, exist_ok=True)
    serialize({fidelity: blackbox}, str(out), metadata={"metric_elapsed_time": _METRICS[2], "metric_mode": "min"})
    return out


def _syne_tune_domain(parameter: Parameter) -> Any:
    from syne_tune.config_space import choice, finrange, randint

    if not isinstance(parameter, IntParameter):
        return choice(list(parameter.values or ()))
    if parameter.step == 1:
        return randint(parameter.low, parameter.high)
    return finrange(parameter.low, parameter.high, len(parameter.values), cast_int=True)


class StarBenchProblem:
    """StarBench as a benchmark problem by OptunaHub's protocol (`optunahub.benchmarks.BaseProblem`).

    A study optimises it as it is: `study.optimize(StarBenchProblem("studies/starbench"), n_trials=100)`. It knows every
    network of the space; those outside the table are estimated (`starsearch.bench.judge.Judge`).

    Args:
        table: the table's folder.
        fidelity: "proxy" or "long".

    Raises:
        StudyError: the table has too few rows.
    """

    def __init__(self, table: str | Path, fidelity: str = "proxy") -> None:
        self._judge = Judge(Path(table), fidelity)

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The space's parameters."""
        return parameter_distributions(self._judge.space.parameters)

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        """Top-1 is maximised, latency minimised."""
        from optuna.study import StudyDirection

        return [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]

    @property
    def metric_names(self) -> list[str]:
        """The names of the values that `evaluate` returns."""
        return ["top1_percent", "latency_ms"]

    def evaluate(self, params: Mapping[str, Value]) -> tuple[float, float]:
        """Return top-1 in percent after the last epoch, without the noise of a seed, and the latency in ms.

        Raises:
            SpecError: params are not those of the search space.
        """
        found = self._judge.judge(self._decode(params))
        return found.curve[-1], found.latency_ms

    def evaluate_constraints(self, params: Mapping[str, Value]) -> tuple[float, ...]:
        """Return the space's constraints on the network; each holds where it is at most 0."""
        space = self._judge.space
        architecture = self._decode(params)
        values = {one.name: constrained_quantity(one.name, architecture, space.resolution) for one in space.constraints}
        return tuple(by for one in space.constraints for by in one.violations(values).values())

    def _decode(self, params: Mapping[str, Value]) -> Architecture:
        known = {one.name: one for one in self._judge.space.parameters}
        wrong = [name for name, one in known.items() if name not in params or not allows(one, params[name])]
        wrong += [name for name in params if name not in known]
        if wrong:
            raise SpecError(
                f"Parameters must be exactly those of `search_space`; missing, beyond their range or unknown: "
                f"{', '.join(wrong)}."
            )
        # As the space spells them: an equal number may be numpy's, or a whole float.
        own = {name: next(value for value in one.values or () if value == params[name]) for name, one in known.items()}
        return self._judge.space.decode_architecture(own)

    def __call__(self, trial: optuna.Trial) -> tuple[float, float]:
        """Evaluate what the trial suggests."""
        params: dict[str, Value] = {
            one.name: trial.suggest_int(one.name, one.low, one.high, step=one.step)
            if isinstance(one, IntParameter)
            else trial.suggest_categorical(one.name, one.values or ())
            for one in self._judge.space.parameters
        }
        return self.evaluate(params)

"""The space's parameters as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starsearch.space.parameters import FloatParameter, IntParameter, Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def parameter_distributions(parameters: Iterable[Parameter]) -> dict[str, BaseDistribution]:
    """One distribution a parameter, by name, in the parameters' order."""
    return {parameter.name: _distribution(parameter) for parameter in parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, IntParameter):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, FloatParameter):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return CategoricalDistribution(parameter.choices)

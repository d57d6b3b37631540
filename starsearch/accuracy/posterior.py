"""`fit_posterior`: from observations of any tasks to what is known of one task's accuracy.

A Gaussian process over networks and tasks (Bonilla, Chai and Williams, "Multi-task Gaussian Process Prediction",
2008) on the logarithm of the error. Between networks: a linear kernel, which is the scaling law, plus a Matérn 5/2
kernel, plus another over kernel sizes and ratios alone. Between tasks: a matrix of learned correlations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from starsearch.accuracy.evidence import IMAGENET, Observation, shared_order
from starsearch.accuracy.features import encode
from starsearch.accuracy.gaussian_process import between_tasks, build, fit
from starsearch.errors import AccuracyError
from starsearch.families.family import Architecture
from starsearch.families.text import format_architecture

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["multi-task GP", "GP", "scaling law", "prior"]
_SIGNAL = "signal/"
_FEWEST_TO_FIT = 4  # observations, below which the hyperparameters stay where their priors have them
_FEWEST_TO_JUDGE = 10  # the target's observations, from which other tasks and the intervals are judged by them
_CLEARLY = 1.0  # difference of log densities, above which it is worse with other tasks
_UNIT = 0.25  # of the error's logarithm, in which ImageNet's published results spread by `_SPREAD`
_SPREAD = 0.16  # standard deviation of the error's logarithm among them
_LEAST_SPREAD = 0.005
_LAW = -0.18  # change of the error's logarithm with the first feature, from S050 to S4 (tables 6 and 14 of the paper)
_ERRORS = (0.05, 99.95)  # percent: 0 and 100 % of a finite number of images are no less than that
_Z90 = 1.6449


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy in percent, with the ends of its 90 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What is known of the accuracy of networks on one task.

    Attributes:
        target: the task.
        kind: how it was found: by a "GP" of the target's observations, or a "multi-task GP" of other tasks' too;
            "scaling law" where they are too few to fit, or the fit did not converge; "prior" where the target has no
            observations.
        model: the Gaussian process in BoTorch, of features and a task's number; the target's is 0.
        level, slope: the model's 0 stands for the error's logarithm `level` + `slope` · the first feature.
        units: of each task, in which its logarithms are modelled: networks spread by as many on each.
        signs: for each other task that is used, -1 for a signal that rises with the error, else 1.
        unused: other tasks: the target's observations were foretold less well with them, or are ordered in reverse.
        stretch: of all standard deviations, so that observations left out one by one lie as far off as is said (Bachoc
            2013, "Cross Validation and Maximum Likelihood estimations of hyper-parameters of Gaussian processes").
    """

    target: str
    kind: Kind
    model: Any
    level: float
    slope: float
    units: Mapping[str, float]
    signs: Mapping[str, int]
    unused: tuple[str, ...] = ()
    stretch: float = 1.0

    @property
    def weights(self) -> Mapping[str, float]:
        """Each other task's learned correlation with the target; of one observation, with its noise.

        0 to 1, of signals -1 to 1; 0 for one that is not used.
        """
        import torch

        inputs = self.model.train_inputs[0]
        between = between_tasks(self.model)
        found, noise = between.covar_matrix.detach(), self.model.likelihood.noise.detach().flatten()
        networks = self.model.covar_module.kernels[0].kernels[0]
        weights = dict.fromkeys(self.unused, 0.0)
        for number, (task, sign) in enumerate(self.signs.items(), start=1):
            own = inputs[inputs[:, -1] == number]
            with torch.no_grad():
                covariance = found[number, number] * networks(own).to_dense()
            signal = covariance.diagonal().mean() - covariance.mean()  # variance about the task's level
            share = signal / (signal + noise[number])
            correlation = found[0, number] / (found[0, 0] * found[number, number]).sqrt()
            weights[task] = sign * float(correlation * share.sqrt())
        return weights

    @property
    def tasks(self) -> set[str]:
        """All that it was fitted to, used or not."""
        return {self.target, *self.signs, *self.unused}

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate]:
        """Return what one training of each network reaches on the target."""
        if not architectures:
            return []
        inputs = self._inputs(architectures)
        mean, reduced = self._condition(inputs)
        variance = (self._prior(inputs, inputs) - (reduced**2).sum(dim=0)).clamp_min(0) + self._noise(0)
        middle, spread = self._log_error(inputs, mean), _Z90 * self._unit * self.stretch * variance.sqrt()
        ends = (100 - one.exp().clamp_max(100) for one in (middle, middle + spread, middle - spread))
        rows = zip(*(one.tolist() for one in ends), strict=True)
        return [Estimate(mean=mean, low=low, high=high) for mean, low, high in rows]

    def joint(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        """Return mean (n,) and covariance (n, n) of the logarithm of the target's error in percent, without noise."""
        inputs = self._inputs(architectures)
        mean, reduced = self._condition(inputs)
        with _no_gradients():
            covariance = self.model.covar_module(inputs).to_dense() - reduced.T @ reduced
        return self._log_error(inputs, mean), (self._unit * self.stretch) ** 2 * covariance

    def moved_by(self, architectures: Sequence[Architecture], task: str, *, standard_error: float) -> Tensor:
        """Return (n,) standard deviations of how far one observation of each network moves its target's mean.

        Of the logarithm of the error; 0 for a task without observations, which may be worth anything.

        Args:
            standard_error: of the observation's logarithm of the error, beside the task's own noise.
        """
        import torch

        if not architectures or (task != self.target and task not in self.signs):
            return torch.zeros(len(architectures), dtype=torch.float64)
        number = [self.target, *self.signs].index(task)
        target, seen = self._inputs(architectures), self._inputs(architectures, number)
        own, other = self._condition(target)[1], self._condition(seen)[1]
        covariance = self._prior(target, seen) - (own * other).sum(dim=0)
        variance = (self._prior(seen, seen) - (other**2).sum(dim=0)).clamp_min(0)
        noise = self._noise(number) + (standard_error / self.units[task] / self.stretch) ** 2
        return self._unit * self.stretch * covariance.abs() / (variance + noise).sqrt()

    @property
    def _unit(self) -> float:
        return self.units[self.target]

    def _inputs(self, architectures: Sequence[Architecture], number: int = 0) -> Tensor:
        import torch

        return torch.tensor([(*encode(one), float(number)) for one in architectures], dtype=torch.float64)

    def _log_error(self, inputs: Tensor, values: Tensor) -> Tensor:
        return self.level + self.slope * inputs[:, 0] + self._unit * values

    def _noise(self, number: int) -> Tensor:
        found: Tensor = self.model.likelihood.noise.detach().flatten()[number]
        return found

    def _prior(self, one: Tensor, other: Tensor) -> Tensor:
        """Return (n,), the covariance of each row of one with the same row of the other before any observation."""
        with _no_gradients():
            found: Tensor = self.model.covar_module(one, other, diag=True)
        return found

    def _condition(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean (n,), and (observations, n) whose products are what observations take off the covariance.

        By one Cholesky decomposition: BoTorch's posterior of n networks one by one copies the observations n times.
        """
        import torch

        model, told = self.model, self.model.train_inputs[0]
        with _no_gradients():
            cross = model.covar_module(told, inputs).to_dense()
            columns = torch.cat([model.train_targets[:, None], cross], 1)
            both = torch.linalg.solve_triangular(self._root, columns, upper=False)
        return both[:, 0] @ both[:, 1:], both[:, 1:]

    @cached_property
    def _root(self) -> Tensor:
        """The Cholesky factor of the observations' covariance, with their noise."""
        from linear_operator.utils.cholesky import psd_safe_cholesky

        told = self.model.train_inputs[0]
        with _no_gradients():
            covariance = self.model.likelihood(self.model.forward(told), [told]).covariance_matrix
            found: Tensor = psd_safe_cholesky(covariance)
        return found

    def left_out(self) -> tuple[Tensor, Tensor]:
        """Return (n,) errors and variances of the target's observations, each foretold by all others.

        Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equation 5.12.
        """
        import torch

        inverse = torch.cholesky_inverse(self._root)
        variance, own = 1 / inverse.diagonal(), self.model.train_inputs[0][:, -1] == 0
        return (inverse @ self.model.train_targets * variance)[own], variance[own]


@contextmanager
def _no_gradients() -> Iterator[None]:
    """Compute without gradients, and without warnings of jitter."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit_posterior(
    observations: Iterable[Observation], *, target: str = IMAGENET, seed: int = 0, like: Posterior | None = None
) -> Posterior:
    """Return what observations say of the accuracy on the task `target`.

    The correlations between tasks are learned, so that one that ranks like noise moves nothing; but many such values
    also teach the kernels what holds of noise. So where the target has observations enough, other tasks are not used if
    those, each left out, are clearly foretold better without; nor is one that orders three networks or more no better
    than in reverse. Each task has a noise, which is learned too; standard errors add to it. Repeated trainings are
    observations of their own, exact duplicates are one, and a value that is not a number is none. Takes seconds at 300
    observations.

    Args:
        seed: of the starts of a fit that does not converge at once.
        like: a posterior of the same tasks, whose hyperparameters are taken over.

    Raises:
        AccuracyError: a target that is a signal, a value that is no number, an accuracy beyond 0 to 100 %, or a
            standard error that is no number, negative or not finite.
    """
    told = [one for one in dict.fromkeys(observations) if _is_told(one)]
    if target.startswith(_SIGNAL):
        raise AccuracyError(f"What is estimated is an accuracy; got the signal {target!r}. Name a data set's task.")
    if like is not None and like.target == target and like.tasks == {target, *(one.task for one in told)}:
        used = [like.target, *like.signs]
        own = [one for one in told if one.task in used]
        posterior = _condition(own, used, kind=like.kind, slope=like.slope, units=like.units)
        posterior.model.load_state_dict(like.model.state_dict())
        return replace(posterior, unused=like.unused, stretch=like.stretch)
    # Correlations between tasks are from 0 to 1, and begin with a high one: what is in reverse would be taken for good.
    others = dict.fromkeys(one.task for one in told if one.task != target and not one.task.startswith(_SIGNAL))
    against = tuple(task for task in others if shared_order(told, task, target).tau <= 0)
    told = [one for one in told if one.task not in against]
    tasks = list(dict.fromkeys([target, *(one.task for one in told)]))
    known = any(one.task == target for one in told)
    if len(told) >= _FEWEST_TO_FIT:
        kind: Kind = "GP" if len(tasks) == 1 else "multi-task GP"
        posterior = _condition(told, tasks, kind=kind if known else "prior", slope=0.0, units=_units(told))
        if fit(posterior.model, seed):
            posterior = _check_by_target(posterior, told, seed)
            return replace(posterior, unused=(*posterior.unused, *against))
    return replace(_condition(told, tasks, kind="scaling law" if known else "prior", slope=_LAW), unused=against)


def _check_by_target(posterior: Posterior, told: Sequence[Observation], seed: int) -> Posterior:
    """Return the posterior, or that without other tasks where it foretells the target's observations better."""
    own = [one for one in told if one.task == posterior.target]
    if len(own) < _FEWEST_TO_JUDGE:
        return posterior
    error, variance = posterior.left_out()
    if posterior.signs:
        alone = _condition(own, [posterior.target], kind="GP", slope=0.0, units=posterior.units)
        if fit(alone.model, seed):
            error_alone, variance_alone = alone.left_out()
            if _log_density(error_alone, variance_alone) > _log_density(error, variance) + _CLEARLY:
                posterior = replace(alone, unused=tuple(posterior.signs))
                error, variance = error_alone, variance_alone
    return replace(posterior, stretch=max(1.0, float((error**2 / variance).mean().sqrt())))


def _log_density(error: Tensor, variance: Tensor) -> float:
    return float(-(variance.log() + error**2 / variance).sum() / 2)


def _is_told(one: Observation) -> bool:
    """Return whether an observation says anything; raise `AccuracyError` for what cannot have been observed."""
    where = f"for {format_architecture(one.architecture)} on {one.task}" + (f" ({one.source})" if one.source else "")
    try:
        finite = math.isfinite(one.value)
    except TypeError:
        raise AccuracyError(f"An observation's value is a number; got {one.value!r} {where}. Leave it out.") from None
    if not finite:
        return False
    if not one.task.startswith(_SIGNAL) and not 0 <= one.value <= 100:
        raise AccuracyError(f"An accuracy lies in 0..100 %; got {one.value:g} {where}. Correct it or leave it out.")
    try:
        is_error = 0 <= one.standard_error < math.inf
    except TypeError:
        is_error = False
    if not is_error:
        raise AccuracyError(
            f"A standard error is a number, finite and not negative; got {one.standard_error!r} {where}. 0 says it is "
            "not known."
        )
    return True


def _units(told: Sequence[Observation]) -> dict[str, float]:
    """Return the unit of each task but signals: in it, networks spread on the task as they do on ImageNet in `_UNIT`.

    A task of few observations would else be taken to spread as the priors have it, which is several times too much
    where all networks do nearly as well, and other tasks' results would be stretched to that.
    """
    units = {}
    for task in {one.task for one in told if not one.task.startswith(_SIGNAL)}:
        error = np.clip([100 - one.value for one in told if one.task == task], *_ERRORS)
        spread, count = max(float(np.log(error).std()), _LEAST_SPREAD), len(error)
        # The prior of the spread's logarithm has variance 1; that of its estimate is 1 / 2n.
        units[task] = _UNIT * (spread / _SPREAD) ** (2 * count / (2 * count + 1) if count > 1 else 0)
    return units


def _condition(
    told: Sequence[Observation],
    tasks: Sequence[str],
    *,
    kind: Kind,
    slope: float,
    units: Mapping[str, float] = MappingProxyType({}),
) -> Posterior:
    """Return the posterior with hyperparameters as their priors have them."""
    import torch

    units = dict.fromkeys(tasks, _UNIT) | dict(units)
    by_task = {task: [one for one in told if one.task == task] for task in tasks}
    errors: dict[Architecture, float] = {one.architecture: -one.value for one in by_task[tasks[0]]}
    levels, signs = {}, {}
    rows, values, variances = [], [], []
    for number, (task, own) in enumerate(by_task.items()):
        rows += [(*encode(one.architecture), float(number)) for one in own]
        signs[task] = 1
        if task.startswith(_SIGNAL):
            signs[task] = _sign(own, errors)
            found = np.array([-signs[task] * one.value for one in own], dtype=float)
            found /= np.abs(found).max() or 1.0  # so that no square overflows
            values += ((found - found.mean()) / (found.std() or 1.0)).tolist()
            variances += [0.0] * len(own)
            continue
        error = np.clip([100 - one.value for one in own], *_ERRORS)
        found = np.log(error) - slope * np.array([encode(one.architecture)[0] for one in own])
        levels[task] = found.mean() if own else math.log(50.0)
        values += ((found - levels[task]) / units[task]).tolist()
        variances += [(one.standard_error / at / units[task]) ** 2 for one, at in zip(own, error, strict=True)]
    if not by_task[tasks[0]]:  # BoTorch needs one of each task; what is all but unknown says nothing
        rows, values, variances = [*rows, (*encode(Architecture.of()), 0.0)], [*values, 0.0], [*variances, 1e6]
    model = build(*(torch.tensor(one, dtype=torch.float64) for one in (rows, values, variances)), num_tasks=len(tasks))
    del signs[tasks[0]]
    level = float(levels[tasks[0]])
    return Posterior(target=tasks[0], kind=kind, model=model, level=level, slope=slope, units=units, signs=signs)


def _sign(signal: Sequence[Observation], errors: Mapping[Architecture, float]) -> int:
    """Return -1 where a signal rises with the target's error, else 1; by multiply-adds where few networks have both."""
    shared = [one for one in signal if one.architecture in errors]
    pairs = [(one.value, errors[one.architecture]) for one in shared]
    if len(pairs) < _FEWEST_TO_FIT:
        pairs = [(one.value, -encode(one.architecture)[0]) for one in signal]
    x, y = np.array(pairs).T
    return -1 if ((x - x.mean()) * (y - y.mean())).sum() > 0 else 1

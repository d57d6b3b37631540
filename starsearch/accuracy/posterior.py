"""`fit_posterior`: from observations of any tasks to what is known of one task's accuracy."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from starsearch.accuracy.evidence import IMAGENET, Observation
from starsearch.accuracy.features import encode
from starsearch.errors import StudyError
from starsearch.families.family import Architecture

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["multi-task GP", "GP", "prior"]
_SIGNAL = "signal/"
_FEWEST_TO_FIT = 4  # observations, below which the hyperparameters stay where their priors have them
_ITERATIONS = 75
_SPREAD = 0.25  # the usual spread of the error's logarithm among networks, and the model's unit
_Z90 = 1.6449
_AT_ONCE = 200  # networks, whose joint covariance costs less than as many single ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy in percent, with the ends of its 90 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """What is known of the accuracy of networks on one task.

    Attributes:
        target: the task.
        kind: how it was found; "prior" where the hyperparameters were not fitted.
        weights: of each other task its learned correlation with the target.
        center: the mean of the target's logarithm of the error.
        model: the Gaussian process, of features and a task's number.
    """

    target: str
    kind: Kind
    weights: Mapping[str, float]
    center: float
    model: Any

    def estimate(self, architectures: Sequence[Architecture]) -> list[Estimate]:
        """Return each network's accuracy on the target."""
        estimates = []
        for begin in range(0, len(architectures), _AT_ONCE):
            found = self._posterior(self._inputs(architectures[begin : begin + _AT_ONCE]), noise=True)
            mean = (self.center + _SPREAD * found.mean).flatten().tolist()
            std = (_SPREAD * found.variance.clamp_min(0).sqrt()).flatten().tolist()
            for m, s in zip(mean, std, strict=True):
                low, high = _percent(m + _Z90 * s), _percent(m - _Z90 * s)
                estimates.append(Estimate(mean=_percent(m), low=low, high=high))
        return estimates

    def joint(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        """Return mean (n,) and covariance (n, n) of the logarithm of the target's error in percent, without noise."""
        found = self._posterior(self._inputs(architectures), noise=False).distribution
        return self.center + _SPREAD * found.mean, _SPREAD**2 * found.covariance_matrix

    def _inputs(self, architectures: Sequence[Architecture]) -> Tensor:
        import torch

        features = torch.tensor([encode(one) for one in architectures], dtype=torch.float64)
        return torch.cat([features, torch.zeros(len(features), 1, dtype=torch.float64)], dim=1)

    def _posterior(self, inputs: Tensor, *, noise: bool) -> Any:
        import torch

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of jitter
            return self.model.posterior(inputs, observation_noise=noise)


def fit_posterior(
    observations: Iterable[Observation], *, target: str = IMAGENET, seed: int = 0, like: Posterior | None = None
) -> Posterior:
    """Return what observations say of the accuracy on the task `target`.

    A Gaussian process over tasks (Bonilla et al. 2008) on the logarithm of the error: a linear kernel, the scaling
    law, plus a Matérn 5/2 kernel. How tasks correlate is learned, so that one that ranks like noise moves nothing.

    Args:
        like: a posterior of the same tasks, whose hyperparameters are taken over.

    Raises:
        StudyError: no observation has a finite value.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit.script, which a dependency of BoTorch still uses
        from botorch.exceptions.errors import ModelFittingError
        from botorch.fit import fit_gpytorch_mll
        from botorch.models.gp_regression import SingleTaskGP
        from botorch.models.multitask import MultiTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

    values = _by_task(observations)
    if not values:
        raise StudyError("An accuracy is estimated from observations; there are none with a finite value.")
    tasks = [target, *(task for task in values if task != target)]
    center = {task: sum(found.values()) / len(found) for task, found in values.items()}
    center.setdefault(target, center.get(IMAGENET, math.log(50.0)))
    rows = [
        (*encode(network), float(tasks.index(task)), (value - center[task]) / _SPREAD)
        for task, found in values.items()
        for network, value in found.items()
    ]
    data = torch.tensor(rows, dtype=torch.float64)
    inputs, outputs = data[:, :-1], data[:, -1:]
    given = {"covar_module": _kernel(inputs.shape[1] - 1), "outcome_transform": None}
    torch.manual_seed(seed)
    model: Any
    if len(tasks) > 1:
        model = MultiTaskGP(
            inputs, outputs, task_feature=-1, output_tasks=[0], all_tasks=list(range(len(tasks))), **given
        )
    else:
        model = SingleTaskGP(inputs, outputs, **given)
    kind: Kind = "multi-task GP" if len(tasks) > 1 else "GP"
    if like is not None and list(like.weights) == tasks[1:]:
        model.load_state_dict(like.model.state_dict())
        kind = like.kind
    elif len(rows) >= _FEWEST_TO_FIT:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of attempts that did not converge; the last one raises
                fit_gpytorch_mll(
                    ExactMarginalLogLikelihood(model.likelihood, model),
                    optimizer_kwargs={"options": {"maxiter": _ITERATIONS}},
                )
        except ModelFittingError:
            kind = "prior"
    else:
        kind = "prior"
    model.eval()
    return Posterior(target=target, kind=kind, weights=_correlations(model, tasks), center=center[target], model=model)


def _by_task(observations: Iterable[Observation]) -> dict[str, dict[Architecture, float]]:
    """Return the mean logarithm of the error, or the scaled signal, of each task's networks."""
    found: defaultdict[str, defaultdict[Architecture, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in observations:
        if math.isfinite(one.value):
            value = one.value if one.task.startswith(_SIGNAL) else math.log(min(max(100 - one.value, 0.05), 99.9))
            found[one.task][one.architecture].append(value)
    means = {
        task: {network: sum(values) / len(values) for network, values in networks.items()}
        for task, networks in found.items()
    }
    for task, networks in means.items():
        if task.startswith(_SIGNAL):
            low, high = min(networks.values()), max(networks.values())
            means[task] = {network: value / (high - low or 1.0) for network, value in networks.items()}
    return means


def _kernel(dimensions: int) -> Any:
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from gpytorch.kernels import LinearKernel, ScaleKernel
    from gpytorch.priors import LogNormalPrior

    dims = tuple(range(dimensions))
    linear = LinearKernel(active_dims=dims, variance_prior=LogNormalPrior(-1.5, 1.0))
    matern = get_covar_module_with_dim_scaled_prior(ard_num_dims=dimensions, active_dims=dims, use_rbf_kernel=False)
    return linear + ScaleKernel(matern, outputscale_prior=LogNormalPrior(-1.5, 1.0))


def _correlations(model: Any, tasks: Sequence[str]) -> dict[str, float]:
    import torch

    if len(tasks) == 1:
        return {}
    with torch.no_grad():
        kernel = next(one for one in model.covar_module.kernels if hasattr(one, "covar_factor"))
        covariance = kernel.covar_matrix.to_dense()
    scale = covariance.diagonal().sqrt()
    row = (covariance[0] / (scale[0] * scale)).tolist()
    return dict(zip(tasks[1:], row[1:], strict=True))


def _percent(log_error: float) -> float:
    return 100 - math.exp(min(log_error, math.log(100.0)))

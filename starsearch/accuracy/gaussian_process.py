"""The Gaussian process behind `fit_posterior`, in BoTorch: its kernels, its priors, and how it is fitted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starsearch.accuracy.features import FEATURES, LINEAR, SHAPE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_LEVEL = 4.0  # variance of a task's own level about its observations' mean, in units
# Where the hyperparameters begin, and stay where nothing is known: the modes of their priors.
_LINEAR, _ALL, _OPEN, _NOISE = 0.05, 0.1, 0.1, 0.003  # variances, in units
_ALL_LENGTH, _OPEN_LENGTH = 10.0, 4.0


def build(inputs: Tensor, outputs: Tensor, variances: Tensor, *, num_tasks: int) -> Any:
    """Return the Gaussian process, conditioned on the observations, with hyperparameters where the priors have them."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit.script, which a dependency of BoTorch still uses
        from botorch.models.multitask import MultiTaskGP
        from botorch.models.utils.priors import BetaPrior
        from gpytorch.constraints import GreaterThan
        from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, ScaleKernel
        from gpytorch.likelihoods import HadamardGaussianLikelihood
        from gpytorch.means import MultitaskMean, ZeroMean
        from gpytorch.priors import LogNormalPrior
        from linear_operator.operators import DiagLinearOperator, LinearOperator

    class OwnLevels(Kernel):
        """Each task's own level, about which nothing else says anything."""

        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
            if diag:
                return _LEVEL * (x1 == x2)[..., 0].to(x1.dtype)
            return _LEVEL * (x1 == x2.mT).to(x1.dtype)

    class Noise(HadamardGaussianLikelihood):
        """Each task's learned noise, plus the observations' standard errors."""

        def _shaped_noise_covar(self, base_shape: torch.Size, *params: Any, **kwargs: Any) -> LinearOperator:
            learned = super()._shaped_noise_covar(base_shape, *params, **kwargs)
            return learned + DiagLinearOperator(variances) if base_shape == variances.shape else learned

    def positive(mode: float, scale: float, name: str) -> dict[str, Any]:
        prior = LogNormalPrior(math.log(mode) + scale**2, scale)
        # In logarithms: as they are, L-BFGS stops near its start, and no correlation between tasks is learned.
        constraint = GreaterThan(1e-4, transform=torch.exp, inv_transform=torch.log, initial_value=mode)
        return {f"{name}_prior": prior, f"{name}_constraint": constraint}

    def matern(dims: Sequence[int], output: float, length: float) -> Kernel:
        base = MaternKernel(
            nu=2.5, active_dims=tuple(dims), ard_num_dims=len(dims), **positive(length, 0.25, "lengthscale")
        )
        return ScaleKernel(base, **positive(output, 1.0, "outputscale"))

    linear = LinearKernel(active_dims=LINEAR, ard_num_dims=len(LINEAR), **positive(_LINEAR, 1.0, "variance"))
    model = MultiTaskGP(
        inputs,
        outputs[:, None],
        task_feature=-1,
        output_tasks=[0],
        all_tasks=list(range(num_tasks)),
        rank=1,
        covar_module=linear + matern(range(len(FEATURES)), _ALL, _ALL_LENGTH) + matern(SHAPE, _OPEN, _OPEN_LENGTH),
        likelihood=Noise(num_tasks=num_tasks, task_feature_index=inputs.shape[1] - 1, **positive(_NOISE, 1.0, "noise")),
        mean_module=MultitaskMean(base_means=ZeroMean(), num_tasks=num_tasks),
        outcome_transform=None,
        task_covar_prior=BetaPrior(2.5, 1.5) if num_tasks > 1 else None,
    )
    between = between_tasks(model)
    between.covar_factor = torch.ones_like(between.covar_factor)
    between.var = torch.full_like(between.var, 0.5)
    model.covar_module = model.covar_module + OwnLevels(active_dims=[inputs.shape[1] - 1])
    return model.double().eval()


def between_tasks(model: Any) -> Any:
    """Return the kernel between tasks."""
    from gpytorch.kernels import IndexKernel

    return next(one for one in model.modules() if isinstance(one, IndexKernel))


def fit(model: Any, seed: int) -> bool:
    """Fit the hyperparameters, and return whether that converged."""
    import torch

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of attempts that did not converge; the last one raises
        from botorch.exceptions.errors import ModelFittingError
        from botorch.fit import fit_gpytorch_mll
        from gpytorch.mlls import ExactMarginalLogLikelihood

        torch.manual_seed(seed)
        try:
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(model.likelihood, model),
                optimizer_kwargs={"options": {"maxiter": 300, "ftol": 1e-7}},
                max_attempts=2,
            )
        except (ModelFittingError, RuntimeError, ValueError):  # of linear algebra, or of a prior's bounds
            return False
        finally:
            model.eval()
    return True

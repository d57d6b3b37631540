"""Fitting a device's coefficients: milliseconds per unit of each physical term, none below zero.

Least squares on relative errors. Few networks cannot tell forty terms apart, so the runtime's own profile of each
network joins in: how its time is shared among the kinds of layers. A profiler disturbs what it watches, so that
evidence counts less the more networks there are; how much is decided by cross-validation, as is the vector width.

Adapting a profile to another device is the same fit of a factor per sort of work, with the published profile (all
factors equal) as its prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, count_macs, lower
from starsearch.families.text import parse_architecture
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.profile import FloatVector, HeldOut
from starsearch.latency.prediction.terms import NetworkTerms
from starsearch.resolution import Resolution

MIN_SAMPLES = 8
VECTOR_WIDTHS = (4, 8, 16)
CONFIDENCE = 0.9
_PROFILE_WEIGHTS = (0.0, 0.03, 0.1, 0.3)
_RIDGE = 1e-3  # of a column of norm 1: leaves no term undetermined, changes no determined one
_LEAST_SHARE = 0.01  # of a network's time, below which a profiled share is not known relatively any better
_FOLDS = 10
# How closely the sorts of work keep to the device's overall speed: of its own speed each has as much evidence as its
# share of the networks' time, times this squared. From one thread to two, .1 to .4 did equally well.
_STIFFNESS = 0.2
_LEAST_OF_VARIANCE = 0.5
_DESIGN_RIDGE = 1e-2

IndexVector = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fitted best."""

    vector_width: int  # channels are rounded up to it
    coefficients_ms: Mapping[str, float]  # by term
    predicted_ms: FloatVector  # (n,), every network predicted by a fit that had not seen it
    # Of such predictions: of the two best settings together, since a winner's own error flatters it.
    log_error: float


def fit_coefficients(
    samples: Sequence[Sample], *, resolution: Resolution, vector_widths: Sequence[int] = VECTOR_WIDTHS
) -> Fit:
    """Fit the coefficients, the best vector width chosen, and predict every network in 10-fold cross-validation."""
    if len(samples) < MIN_SAMPLES:
        raise EvaluationError(
            f"A fit needs at least {MIN_SAMPLES} measured networks; there are {len(samples)}. Measure more (--budget), "
            "or adapt a profile of a similar device, which needs 5."
        )
    architectures = [parse_architecture(sample.architecture) for sample in samples]
    ms = np.array([sample.ms for sample in samples])
    tried: list[tuple[float, int, float, _Problem, FloatVector]] = []
    for width in vector_widths:
        described = [NetworkTerms.of(lower(one, resolution=resolution), vector_width=width) for one in architectures]
        problem = _Problem.of(described, samples)
        for weight in _PROFILE_WEIGHTS if len(problem.shares) else _PROFILE_WEIGHTS[:1]:
            predicted = _predict_held_out(problem.networks, partial(problem.solve, weight))
            # A network of layers that only it has may be predicted at nothing: its logarithm must still exist.
            predicted = np.maximum(predicted, 1e-3 * ms)
            tried.append((log_error(predicted, ms), width, weight, problem, predicted))
    tried.sort(key=lambda one: one[:3])
    _, width, weight, problem, predicted = tried[0]
    errors = [error for error, *_ in tried[:2]]
    return Fit(
        vector_width=width,
        coefficients_ms=dict(zip(problem.names, map(float, problem.solve(weight)), strict=True)),
        predicted_ms=predicted,
        log_error=math.sqrt(sum(error**2 for error in errors) / len(errors)),
    )


def scale_parts(parts: Sequence[Mapping[str, float]], ms: Sequence[float]) -> tuple[dict[str, float], FloatVector]:
    """Fit a factor per sort of work, and predict each network by the others.

    `parts` are the networks' predicted milliseconds by sort of work, `ms` the measured ones. Without evidence a factor
    is the median ratio of the two devices.
    """
    groups, predicted_ms = _matrix(parts)
    measured_ms = np.array(ms, dtype=float)

    def solve(kept: IndexVector) -> FloatVector:
        ratios = predicted_ms[kept] / measured_ms[kept, None]
        overall = float(np.median(1 / ratios.sum(axis=1)))
        shares = overall * ratios.mean(axis=0)
        return _solve_non_negative(
            ratios, np.ones(len(kept)), prior=overall, strength=_STIFFNESS * np.sqrt(np.maximum(shares, 1e-6))
        )

    factors = solve(np.arange(len(measured_ms)))
    return dict(zip(groups, map(float, factors), strict=True)), _predict_held_out(predicted_ms, solve)


def choose_informative(
    candidates: Sequence[Architecture], count: int, *, resolution: Resolution, vector_width: int
) -> list[Architecture]:
    """Choose networks that tell coefficients apart, in such an order that any beginning of it is a good choice, too.

    D-optimal design (Fedorov 1972), greedily: the next network is the one whose terms the networks so far say
    least about. Errors are relative, so terms count by the network's size.
    """
    described = [NetworkTerms.of(lower(a, resolution=resolution), vector_width=vector_width).total for a in candidates]
    rows = _matrix(described)[1] / np.array([count_macs(a, resolution=resolution) for a in candidates])[:, None]
    scales = np.sqrt(np.mean(rows**2, axis=0))
    rows = rows[:, scales > 0] / scales[scales > 0]
    inverse = np.eye(rows.shape[1]) / _DESIGN_RIDGE
    gains = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        gains[chosen] = -np.inf
        index = int(np.argmax(gains))
        chosen.append(index)
        direction = inverse @ rows[index]  # Sherman and Morrison's update of the inverse
        scale = 1 + float(rows[index] @ direction)
        inverse -= np.outer(direction, direction) / scale
        gains -= (rows @ direction) ** 2 / scale
    return [candidates[index] for index in chosen]


def describe_errors(predicted_ms: FloatVector, measured_ms: FloatVector, *, method: str) -> HeldOut:
    """Return the errors of predictions of networks that the fit had not seen, (n,) each."""
    from scipy.stats import spearmanr

    errors = np.abs(predicted_ms / measured_ms - 1)
    varies = len(errors) > 1 and np.ptp(predicted_ms) > 0 and np.ptp(measured_ms) > 0
    return HeldOut(
        method=method,
        networks=len(errors),
        mape_percent=float(100 * errors.mean()),
        within_5_percent=float(100 * (errors <= 0.05).mean()),
        within_10_percent=float(100 * (errors <= 0.10).mean()),
        spearman=float(spearmanr(predicted_ms, measured_ms)[0]) if varies else math.nan,
    )


def log_error(predicted_ms: FloatVector, measured_ms: FloatVector) -> float:
    """Return the root mean square of ln(measured / predicted)."""
    return float(np.sqrt(np.mean(np.log(measured_ms / predicted_ms) ** 2)))


def prediction_interval(error: float, count: int, *, noise: FloatVector | None = None) -> tuple[float, float]:
    """Return the ends of the 90 % interval as logarithms of measured / predicted: Student's quantile times the error.

    An order statistic of the residuals (conformal) needs no normal distribution, but from 20 to 50 of them it wavers
    more than the distribution matters: over random calibrations of 20 to 50 networks it held 58 to 100 % of others.
    What the measurements' own noise (their relative standard errors) adds is taken off as a variance, at most half of
    it all.
    """
    from scipy.stats import t

    if noise is not None and error > 0:
        error *= math.sqrt(max(1 - float(np.mean(noise**2)) / error**2, _LEAST_OF_VARIANCE))
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    return -half_width, half_width


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """The least-squares problem as arrays."""

    names: tuple[str, ...]  # (t,), the terms
    networks: FloatVector  # (n, t), terms per network
    ms: FloatVector  # (n,), latencies
    kinds: FloatVector  # (k, t), terms of one network's layers of one kind
    launches: FloatVector  # (k,), how many layers these are
    shares: FloatVector  # (k,), their share of that network's time
    owner: IndexVector  # (k,), the network's row

    @classmethod
    def of(cls, described: Sequence[NetworkTerms], samples: Sequence[Sample]) -> _Problem:
        names, networks = _matrix([network.total for network in described])
        rows = [
            (terms, network.layers[kind], sample.shares.get(kind, 0.0), index)
            for index, (network, sample) in enumerate(zip(described, samples, strict=True))
            if sample.shares
            for kind, terms in network.by_kind.items()
        ]
        return cls(
            names=names,
            networks=networks,
            ms=np.array([sample.ms for sample in samples]),
            kinds=_matrix([terms for terms, *_ in rows], names)[1],
            launches=np.array([launches for _, launches, *_ in rows], dtype=float),
            shares=np.array([share for *_, share, _ in rows], dtype=float),
            owner=np.array([index for *_, index in rows], dtype=int),
        )

    def solve(self, weight: float, kept: IndexVector | None = None) -> FloatVector:
        """Return (t,) coefficients from the networks `kept` (None: all), profiled shares counting by `weight`."""
        kept = np.arange(len(self.ms)) if kept is None else kept
        matrix, target = self.networks[kept] / self.ms[kept, None], np.ones(len(kept))
        if weight and len(self.shares):
            rows, shares = self._weighted_kinds(weight, kept)
            # One more unknown: what the profiler adds to every launch that it records.
            matrix = np.vstack([np.column_stack([matrix, np.zeros(len(kept))]), rows])
            target = np.concatenate([target, shares])
        return _solve_non_negative(matrix, target)[: len(self.names)]

    def _weighted_kinds(self, weight: float, kept: IndexVector) -> tuple[FloatVector, FloatVector]:
        chosen = np.isin(self.owner, kept)
        owner, shares = self.owner[chosen], self.shares[chosen]
        launches = np.bincount(self.owner, self.launches, minlength=len(self.ms))[owner]
        overhead = self.launches[chosen] - shares * launches
        rows = np.column_stack([self.kinds[chosen], overhead]) / self.ms[owner, None]
        weights = weight / np.sqrt(np.maximum(shares, _LEAST_SHARE))
        return rows * weights[:, None], shares * weights


def _solve_non_negative(
    matrix: FloatVector, target: FloatVector, *, prior: float = 0.0, strength: FloatVector | None = None
) -> FloatVector:
    """Return least squares with no solution below zero and a slight ridge, on columns brought to norm 1.

    With a (t,) `strength` each value is drawn to the prior, relatively.
    """
    from scipy.optimize import nnls

    if strength is not None:
        matrix, target = np.vstack([matrix, np.diag(strength / prior)]), np.concatenate([target, strength])
    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = np.inf  # a term that no network has gets no coefficient
    count = matrix.shape[1]
    stacked = np.vstack([matrix / norms, _RIDGE * np.eye(count)])
    solution, _ = nnls(stacked, np.concatenate([target, np.zeros(count)]), maxiter=30 * count)
    return np.asarray(solution / norms)


def _predict_held_out(rows: FloatVector, solve: Callable[[IndexVector], FloatVector]) -> FloatVector:
    """Return each row's product with the solution of the others: in 10 folds, or leaving one out of at most 10."""
    order = np.random.default_rng(0).permutation(len(rows))
    predicted = np.empty(len(rows))
    for fold in range(min(_FOLDS, len(rows))):
        held_out = order[fold :: min(_FOLDS, len(rows))]
        predicted[held_out] = rows[held_out] @ solve(np.setdiff1d(order, held_out))
    return predicted


def _matrix(
    rows: Sequence[Mapping[str, float]], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], FloatVector]:
    """Return the names (all that occur, sorted) and (n, t) the rows' values in their order, 0 where one has none."""
    names = tuple(sorted({name for row in rows for name in row})) if names is None else tuple(names)
    return names, np.array([[row.get(name, 0.0) for name in names] for row in rows]).reshape(len(rows), len(names))

"""Fitting a device's coefficients: milliseconds a unit of each physical term, none below zero.

Least squares on relative errors. Few networks cannot tell forty terms apart, so the runtime's own profile of each
network joins in: how its time is shared among the kinds of layers. A profiler disturbs what it watches, so that
evidence counts less the more networks there are; how much is decided by cross-validation, as is the vector width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.accuracy import log_error
from starsearch.latency.profile import FloatVector, IndexVector, Sample
from starsearch.latency.terms import NetworkTerms, describe_network

MIN_SAMPLES = 8
VECTOR_WIDTHS = (4, 8, 16)
_PROFILE_WEIGHTS = (0.0, 0.03, 0.1, 0.3)
_RIDGE = 1e-3  # of a column of norm 1: leaves no term undetermined, changes no determined one
_LEAST_SHARE = 0.01  # of a network's time, below which a profiled share is not known relatively any better
_FOLDS = 10
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fitted best.

    Attributes:
        vector_width: channels are rounded up to it.
        profile_weight: of the profiled shares against the measured latencies.
        coefficients_ms: by term.
        predicted_ms: (n,), every network predicted by a fit that had not seen it.
        log_error: of such predictions, root mean square of ln(measured / predicted): of the two best settings
            together, since a winner's own error flatters it.
    """

    vector_width: int
    profile_weight: float
    coefficients_ms: Mapping[str, float]
    predicted_ms: FloatVector
    log_error: float


def fit_coefficients(
    samples: Sequence[Sample], *, resolution: int, vector_widths: Sequence[int] = VECTOR_WIDTHS
) -> Fit:
    """The coefficients, with every network's prediction in 10-fold cross-validation.

    Args:
        samples: networks with their latencies.
        resolution: they were measured at.
        vector_widths: to choose from.

    Raises:
        EvaluationError: fewer networks than a fit takes.
    """
    check_enough(samples)
    architectures = [parse_architecture(sample.architecture) for sample in samples]
    problems = {}
    tried: list[tuple[float, int, float]] = []
    for vector_width in vector_widths:
        described = [describe_network(a, resolution=resolution, vector_width=vector_width) for a in architectures]
        problems[vector_width] = problem = _Problem.of(described, samples)
        weights = _PROFILE_WEIGHTS if problem.has_shares else _PROFILE_WEIGHTS[:1]
        tried += [(log_error(_cross_validate(problem, w), problem.ms), vector_width, w) for w in weights]
    errors = sorted(tried)[:2]
    _, vector_width, weight = errors[0]
    problem = problems[vector_width]
    return Fit(
        vector_width=vector_width,
        profile_weight=weight,
        coefficients_ms=dict(zip(problem.names, map(float, problem.solve(weight)), strict=True)),
        predicted_ms=_cross_validate(problem, weight),
        log_error=math.sqrt(sum(error**2 for error, *_ in errors) / len(errors)),
    )


def check_enough(samples: Sequence[Sample]) -> None:
    """Refuse a calibration that says next to nothing.

    Raises:
        EvaluationError: fewer than `MIN_SAMPLES` networks.
    """
    if len(samples) < MIN_SAMPLES:
        raise EvaluationError(
            f"A fit takes at least {MIN_SAMPLES} measured networks; there are {len(samples)}. Measure more (--budget), "
            "or adapt a profile of a similar device, which takes 5."
        )


def folds(count: int) -> Iterator[IndexVector]:
    """Disjoint index sets that cover all networks: 10 of them, or one a network where there are fewer."""
    order = np.random.default_rng(_SEED).permutation(count)
    number = min(_FOLDS, count)
    yield from (order[k::number] for k in range(number))


def _cross_validate(problem: _Problem, weight: float) -> FloatVector:
    predicted = np.empty(len(problem.ms))
    for held_out in folds(len(problem.ms)):
        kept = np.setdiff1d(np.arange(len(problem.ms)), held_out)
        predicted[held_out] = problem.networks[held_out] @ problem.solve(weight, kept)
    # A network of layers that only it has may be predicted at nothing: its logarithm must still exist.
    return np.maximum(predicted, 1e-3 * problem.ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """The least-squares problem as arrays.

    Attributes:
        names: (t,), of the terms.
        networks: (n, t), terms a network.
        ms: (n,), latencies.
        kinds: (k, t), terms of one network's layers of one kind.
        launches: (k,), how many layers these are.
        shares: (k,), of that network's time.
        owner: (k,), the network's row.
    """

    names: tuple[str, ...]
    networks: FloatVector
    ms: FloatVector
    kinds: FloatVector
    launches: FloatVector
    shares: FloatVector
    owner: IndexVector

    @classmethod
    def of(cls, described: Sequence[NetworkTerms], samples: Sequence[Sample]) -> _Problem:
        totals = [network.total for network in described]
        names = tuple(sorted({name for total in totals for name in total}))
        rows = [
            (terms, network.layers[kind], sample.shares.get(kind, 0.0), index)
            for index, (network, sample) in enumerate(zip(described, samples, strict=True))
            if sample.shares
            for kind, terms in network.by_kind.items()
        ]
        return cls(
            names=names,
            networks=term_matrix(totals, names),
            ms=np.array([sample.ms for sample in samples]),
            kinds=term_matrix([terms for terms, *_ in rows], names),
            launches=np.array([launches for _, launches, *_ in rows], dtype=float),
            shares=np.array([share for *_, share, _ in rows], dtype=float),
            owner=np.array([index for *_, index in rows], dtype=int),
        )

    @property
    def has_shares(self) -> bool:
        return len(self.shares) > 0

    def solve(self, weight: float, kept: IndexVector | None = None) -> FloatVector:
        """(t,): non-negative coefficients from the networks `kept`, None for all."""
        kept = np.arange(len(self.ms)) if kept is None else kept
        matrix, target = self.networks[kept] / self.ms[kept, None], np.ones(len(kept))
        if weight and self.has_shares:
            rows, shares = self._weighted_kinds(weight, kept)
            # One more unknown: what the profiler adds to every launch that it records.
            matrix = np.vstack([np.column_stack([matrix, np.zeros(len(kept))]), rows])
            target = np.concatenate([target, shares])
        return solve_non_negative(matrix, target)[: len(self.names)]

    def _weighted_kinds(self, weight: float, kept: IndexVector) -> tuple[FloatVector, FloatVector]:
        chosen = np.isin(self.owner, kept)
        owner, shares = self.owner[chosen], self.shares[chosen]
        launches = np.bincount(self.owner, self.launches, minlength=len(self.ms))[owner]
        overhead = self.launches[chosen] - shares * launches
        rows = np.column_stack([self.kinds[chosen], overhead]) / self.ms[owner, None]
        weights = weight / np.sqrt(np.maximum(shares, _LEAST_SHARE))
        return rows * weights[:, None], shares * weights


def solve_non_negative(matrix: FloatVector, target: FloatVector) -> FloatVector:
    """Least squares with no solution below zero and a slight ridge, on columns brought to norm 1."""
    from scipy.optimize import nnls

    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = np.inf  # a term that no network has gets no coefficient
    count = matrix.shape[1]
    stacked = np.vstack([matrix / norms, _RIDGE * np.eye(count)])
    solution, _ = nnls(stacked, np.concatenate([target, np.zeros(count)]), maxiter=30 * count)
    return np.asarray(solution / norms)


def term_matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> FloatVector:
    """(n, t): each row's terms in the order of the names; what is not named is left out."""
    column = {name: index for index, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)))
    for row, terms in zip(matrix, rows, strict=True):
        for name, value in terms.items():
            if name in column:
                row[column[name]] = value
    return matrix

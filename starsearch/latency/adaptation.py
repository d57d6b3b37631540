"""A profile of another device from a few measurements: what differs is the speed of a few sorts of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.text import parse_architecture
from starsearch.latency.fitting import folds, solve_non_negative, term_matrix
from starsearch.latency.predicting import check_covered
from starsearch.latency.profile import DeviceProfile, FloatVector, IndexVector, Sample
from starsearch.latency.terms import describe_network, sort_of_work

MIN_SAMPLES = 5
# How closely the sorts of work keep to the device's overall speed: of its own speed each has as much evidence as its
# share of the networks' time, times this squared. From one thread to two, .1 to .4 did equally well.
_STIFFNESS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """A profile's coefficients for another device.

    Attributes:
        coefficients_ms: by term.
        predicted_ms: (n,), each of the measured networks predicted by the others.
    """

    coefficients_ms: Mapping[str, float]
    predicted_ms: FloatVector


def adapt_coefficients(profile: DeviceProfile, samples: Sequence[Sample]) -> Adaptation:
    """Scale the profile's coefficients, a factor a sort of work, to a few networks of another device.

    Each kind of layer has one factor for its fixed cost and one for its other work. Without evidence a factor is the
    median ratio of the two devices.

    Args:
        profile: of a similar device.
        samples: measured on the other one.

    Raises:
        EvaluationError: fewer than five networks, or one has a layer the profile has no term for.
    """
    if len(samples) < MIN_SAMPLES:
        raise EvaluationError(
            f"Adapting a profile takes at least {MIN_SAMPLES} measured networks of the other device; "
            f"got {len(samples)}."
        )
    problem = _Scaling.of(profile, samples)
    factors, predicted = problem.cross_validate()
    coefficients = {
        name: value * float(factors[problem.groups.index(sort_of_work(name))])
        for name, value in profile.coefficients_ms.items()
    }
    return Adaptation(coefficients_ms=coefficients, predicted_ms=predicted)


def scale_parts(parts: Sequence[Mapping[str, float]], ms: Sequence[float]) -> tuple[dict[str, float], FloatVector]:
    """Return a factor by sort of work, and each network predicted by the others.

    Args:
        parts: (n,), predicted milliseconds by sort of work.
        ms: (n,), measured.
    """
    groups = tuple(sorted({group for one in parts for group in one}))
    problem = _Scaling(groups=groups, parts=term_matrix(parts, groups), ms=np.array(ms, dtype=float))
    factors, predicted = problem.cross_validate()
    return dict(zip(groups, map(float, factors), strict=True)), predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaling:
    """The problem as arrays.

    Attributes:
        groups: (g,), sorts of work.
        parts: (n, g), milliseconds of each network's sorts of work by the profile.
        ms: (n,), measured on the other device.
    """

    groups: tuple[str, ...]
    parts: FloatVector
    ms: FloatVector

    @classmethod
    def of(cls, profile: DeviceProfile, samples: Sequence[Sample]) -> _Scaling:
        described = [
            describe_network(
                parse_architecture(sample.architecture),
                resolution=profile.resolution,
                vector_width=profile.vector_width,
            )
            for sample in samples
        ]
        for network in described:
            check_covered(profile, network.layers)
        names = tuple(sorted(profile.coefficients_ms))
        costs = term_matrix([network.total for network in described], names) * [
            profile.coefficients_ms[name] for name in names
        ]
        groups = tuple(sorted({sort_of_work(name) for name in names}))
        member = np.array([[sort_of_work(name) == group for group in groups] for name in names], dtype=float)
        return cls(groups=groups, parts=costs @ member, ms=np.array([sample.ms for sample in samples]))

    def cross_validate(self) -> tuple[FloatVector, FloatVector]:
        """(g,) factors from all networks, and (n,) each network predicted by the others."""
        everyone, predicted = np.arange(len(self.ms)), np.empty(len(self.ms))
        for held_out in folds(len(self.ms)):
            predicted[held_out] = self.parts[held_out] @ self.solve(np.setdiff1d(everyone, held_out))
        return self.solve(everyone), predicted

    def solve(self, kept: IndexVector) -> FloatVector:
        """(g,): factors from the networks `kept`."""
        parts, ms = self.parts[kept], self.ms[kept]
        overall = float(np.median(ms / parts.sum(axis=1)))
        shares = overall * (parts / ms[:, None]).mean(axis=0)
        weights = _STIFFNESS * np.sqrt(np.maximum(shares, 1e-6))
        matrix = np.vstack([parts / ms[:, None], np.diag(weights / overall)])
        return solve_non_negative(matrix, np.concatenate([np.ones(len(ms)), weights]))

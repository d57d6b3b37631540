"""`AutoProposer`: the candidate that is expected to add most to the front, by a model of what is known.

The criterion is noisy expected hypervolume improvement (Daulton et al. 2021, "Parallel Bayesian Optimization of
Multiple Noisy Objectives"), exact over a pool of networks: where costs are known, only accuracy is uncertain. With
rungs it is that improvement for the compute, of what goes on from a rung only if that is worth it there: a rule of
Gittins's kind (Xie et al. 2024, "Cost-aware Bayesian Optimization via the Pandora's Box Gittins Index").
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from starsearch.accuracy.evidence import Observation
from starsearch.accuracy.features import encode
from starsearch.accuracy.posterior import Posterior, fit_posterior
from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.latency.prediction.predict import predict_latency
from starsearch.objective import is_accuracy
from starsearch.pareto import FloatArray, hypervolume, non_dominated
from starsearch.quantities import quantity
from starsearch.search.compute import Compute
from starsearch.search.evidence import all_observations, task_of
from starsearch.search.halving import Rungs
from starsearch.search.improvement import expected_improvement, gain_for_compute
from starsearch.search.unseen import Unseen
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

_FEWEST_TO_LEARN_FROM = 4  # trials, anchors included, before which candidates are drawn at random
_POOL = 400  # networks drawn uniformly at first, beside the neighbours of the front
_MORE = 20  # networks drawn with each further proposal
_SHORT_LIST = 200  # networks that are compared by the joint posterior
_FRONTS = 16  # draws of the front from the posterior
_REFIT_AFTER = 1.3  # times as many results as when the hyperparameters were last fitted
_REFIT_UNTIL = 150  # results, which have settled them; fitting takes a second or two by then
_FIT_TO = 150  # observations at most, some of each task; all count for what follows
_SEEN = 5  # values that an observation at a rung may have, by which its worth is averaged
_BEYOND = 0.1  # how far the reference lies beyond the worst results, as a share of their range
_Z90 = 1.6449
_JITTER = 1e-8
_LEAST = 1e-3  # that the logarithm of a cost tells from 0, as a share of the smallest one seen


class AutoProposer:
    """Proposes by expected hypervolume improvement over the losses' logarithms: of the error, and of each cost.

    The accuracy is the posterior's for the study's own task; published results and `evidence` are other tasks. Counts
    and predicted latencies are computed; other quantities follow a log-linear regression on the trials so far.
    Candidates that run count as points of the front whose accuracy is not known yet, so that a batch spreads. The seed
    is the study's plus the number of recorded trials, as the other samplers' is.

    Args:
        recorded: the study's trials so far.
        evidence: what is known beside them and the published results.
        num_classes: of the networks as they are deployed.
        rungs: the study's, whose trials go on where that is worth more than a new candidate.
    """

    def __init__(
        self,
        spec: StudySpec,
        recorded: Sequence[Trial],
        *,
        evidence: Sequence[Observation] = (),
        num_classes: int = 1000,
        rungs: Rungs | None = None,
    ) -> None:
        self._spec, self._num_classes = spec, num_classes
        self._seed = spec.seed + len(recorded)
        self._unseen = Unseen(spec, recorded, seed=self._seed)
        self._drawn: dict[str, Trial] = {}
        self._near: dict[str, list[Trial]] = {}  # by the key of what has been on the front
        self._history = [trial for trial in recorded if trial.has_result]
        self._untrained = [trial for trial in recorded if trial.untrained]
        self._rungs = rungs or Rungs(spec, recorded)
        self._compute = Compute(spec)
        self._results = {trial.key: trial for trial in self._history}
        self._running: dict[str, Trial] = {}
        self._why: dict[str, str] = {}
        # Which of the objectives it is, and the only one with an uncertainty that is shared between networks.
        self._accuracy = next((at for at, one in enumerate(spec.objectives) if is_accuracy(one.name)), None)
        self._evidence = evidence
        self._posteriors: dict[str, Posterior] = {}
        self._told: dict[str, list[Observation]] = {}
        self._fitted = 0  # results when hyperparameters were last fitted
        self._estimated: dict[str, dict[Architecture, tuple[float, float]]] = {}  # by the posteriors as they are
        self._known_costs: dict[tuple[str, Architecture], float] = {}

    def propose(self) -> Trial | None:
        """Return a trial of a new candidate, or one that goes on from its rung; None where there are no more."""
        pool: list[Trial] = []
        if len(self._results) >= _FEWEST_TO_LEARN_FROM:
            self._learn()
            pool = [*self._pool(), *self._rungs.waiting()]
        trial = self._choose(pool) if pool else self._unseen.draw()
        if trial is not None:
            self._begin(trial)
        return trial

    def adopt(self, trial: Trial) -> str:
        """Know of a trial that begins; return why it was proposed, in words."""
        self._begin(trial)
        return self._why.pop(trial.key, "")

    def expected(self, trials: Sequence[Trial]) -> FloatArray:
        """Return (n, m), the logarithms of the losses that trials at any rung are expected to end with."""
        self._learn()
        return self._losses(trials)[0]

    def _begin(self, trial: Trial) -> None:
        self._unseen.known.add(trial.key)
        self._running[trial.key] = trial
        self._drawn.pop(trial.key, None)

    def tell(self, trial: Trial) -> Mapping[str, Any]:
        """Note how a trial ended."""
        self._running.pop(trial.key, None)
        if trial.has_result:
            self._results[trial.key] = trial
            self._history.append(trial)
        elif trial.untrained:
            self._untrained.append(trial)
        return {}

    def _pool(self) -> list[Trial]:
        """Return unseen networks: uniform draws, and what one change makes of the front's."""
        self._drawn |= {trial.key: trial for trial in self._unseen.sample(_MORE if self._drawn else _POOL)}
        feasible = [one for one in self._results.values() if one.is_feasible(self._spec.constraints)]
        front = list(itertools.compress(feasible, non_dominated(self._losses(feasible)[0]))) if feasible else []
        for trial in front:
            if trial.key not in self._near:
                self._near[trial.key] = list(self._neighbours(trial))
        near = (one for trial in front for one in self._near[trial.key])
        return list((self._drawn | {one.key: one for one in near if one.key not in self._unseen.known}).values())

    def _neighbours(self, trial: Trial) -> Iterator[Trial]:
        for parameter in self._spec.space.parameters if trial.params else ():
            values, value = parameter.values or (), trial.params[parameter.name]
            at = values.index(value) if value in values else 0
            # The next of numbers, any other of choices.
            others = values if isinstance(value, str) else (*values[max(at - 1, 0) : at], *values[at + 1 : at + 2])
            for other in others:
                one = self._unseen.decode({**trial.params, parameter.name: other})
                if not self._unseen.is_settled(one):
                    yield one

    def _choose(self, pool: list[Trial]) -> Trial:
        """Return the one of the pool that is expected to add most hypervolume to the front, for its compute."""
        ended = self._feasible([one for one in self._results.values() if one.state == "complete"])[0]
        ended = ended or self._feasible(list(self._results.values()))[0]
        mean, std = self._losses(pool)
        chance = np.where(np.isfinite(mean).all(axis=1), self._chance(pool), 0.0)
        if not ended:  # nothing keeps the constraints yet
            best = pool[int(np.lexsort((mean[:, 0], -chance))[0])]
            self._why[best.key] = f"most likely to keep the constraints: {self._words(best)}"
            return best
        known, front = self._feasible([*ended, *self._running.values()])
        ranges = np.ptp(front, axis=0)
        reference = front.max(axis=0) + _BEYOND * np.where(ranges > 0, ranges, 1.0)  # of a single point it has none
        shares = self._compute.shares(pool, self._history)
        first = chance * np.nan_to_num(expected_improvement(mean, std, front, reference)) / shares.sum(axis=1)
        short = np.argsort(-first, kind="stable")[:_SHORT_LIST]
        pool, mean, std = [pool[row] for row in short], mean[short], std[short]
        chance, (now, later) = chance[short], shares[short].T
        gains, weights = self._gains(known, pool, front, mean, std, reference)
        rates, always = gain_for_compute(chance * gains, weights, now, later)
        at = int(np.lexsort((-chance, -rates))[0])
        share = 100 * chance[at] * (weights @ gains[:, at]) / hypervolume(np.minimum(front, reference), reference)
        goal, step, best = "expected to add most to the front", "", pool[at]
        if self._spec.halving:
            best, step = self._compute.choose_end(best, goes_on=bool(always[at]))
            goal, step = f"{goal} for its compute", f"; {step}"
        amount = f"{share:.1f} % of its hypervolume" if share < 100 else "more than it dominates so far"
        self._why[best.key] = f"{goal}, {amount}: {self._words(best)}{step}"
        return best

    def _feasible(self, trials: Sequence[Trial]) -> tuple[list[Trial], FloatArray]:
        """Return those that keep the constraints more likely than not, and their expected losses (n, m)."""
        if not trials:
            return [], np.empty((0, len(self._spec.objectives)))
        losses = self._losses(trials)[0]
        counts = np.isfinite(losses).all(axis=1) & (self._chance(trials) > 0.5)
        return list(itertools.compress(trials, counts)), losses[counts]

    def _gains(
        self,
        known: Sequence[Trial],
        pool: Sequence[Trial],
        front: FloatArray,
        mean: FloatArray,
        std: FloatArray,
        reference: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Return (s, n), what the pool's ends add to the front after each value seen on the way, and (s,) its weight.

        One value where nothing is seen before the end.
        """
        values, weights = np.polynomial.hermite_e.hermegauss(_SEEN if self._spec.halving else 1)
        fronts, means, std = self._draw_fronts(known, pool, front, mean, std)
        shift, left = np.zeros((len(values), *mean.shape)), np.tile(std, (len(values), 1, 1))
        if self._spec.halving and (column := self._accuracy) is not None:
            moved = np.minimum(self._moved(pool, self._spec.objectives[column].name), 0.999 * std[:, column])
            shift[:, :, column] = values[:, None] * moved
            left[:, :, column] = np.sqrt(std[:, column] ** 2 - moved**2)
        left = left.reshape(-1, mean.shape[1])
        drawn = [
            expected_improvement((shift + one).reshape(left.shape), left, of, reference)
            for one, of in zip(means, fronts, strict=True)
        ]
        return np.nan_to_num(np.mean(drawn, axis=0)).reshape(len(values), -1), weights / weights.sum()

    def _moved(self, pool: Sequence[Trial], name: str) -> FloatArray:
        """Return (n,), how far the result at its next rung moves a candidate's expected loss; 0 at the end."""
        moved = np.zeros(len(pool))
        for rung, task in enumerate(self._compute.tasks):
            rows = [row for row, one in enumerate(pool) if (one.rung or 0) == rung]
            told = [one for one in self._told[name] if one.task == task]
            error = float(np.mean([one.standard_error / (100.01 - one.value) for one in told])) if told else 0.0
            architectures = [pool[row].candidate.architecture for row in rows]
            moved[rows] = self._posteriors[name].moved_by(architectures, task, standard_error=error)
        return moved

    def _words(self, trial: Trial) -> str:
        """Return what is expected of a trial."""
        words = []
        for shown in (quantity(one.name) for one in self._spec.objectives):
            mean, std = (float(one[0]) for one in self._predict(shown.name, [trial]))
            ends = [math.exp(mean + z * std) for z in (0.0, _Z90, -_Z90)]
            ends = [max(100 - end, 0.0) for end in ends] if is_accuracy(shown.name) else ends
            middle, low, high = map(shown.number, ends)
            interval = f" ({low}–{high})" if is_accuracy(shown.name) else ""
            posterior = self._posteriors.get(shown.name)
            notes = [f"{task} not used" for task in posterior.unused] if posterior else []
            notes += ["by the scaling law: no fit converged"] if posterior and posterior.kind == "scaling law" else []
            rests = f" ({'; '.join(notes)})" if notes else ""
            words.append(f"{shown.label} ≈ {middle}{interval} {shown.unit}".rstrip() + rests)
        return ", ".join(words)

    def _draw_fronts(
        self, known: Sequence[Trial], pool: Sequence[Trial], front: FloatArray, mean: FloatArray, std: FloatArray
    ) -> tuple[list[FloatArray], list[FloatArray], FloatArray]:
        """Return fronts drawn from the posterior, and the pool's losses if each were the true one."""
        column = self._accuracy
        if column is None:
            return [front], [mean], std
        posterior = self._posteriors[self._spec.objectives[column].name]
        found = posterior.joint([one.candidate.architecture for one in (*known, *pool)])[1]
        covariance, n = np.asarray(found, dtype=np.float64), len(known)
        root = np.linalg.cholesky(covariance[:n, :n] + _JITTER * covariance.diagonal().mean() * np.eye(n))
        told = np.linalg.solve(root, covariance[:n, n:])  # of the pool by the front, both whitened
        rng = np.random.default_rng(self._seed + len(self._history))
        fronts, means = [], []
        for white in rng.standard_normal((_FRONTS, n)):
            fronts.append(front.copy())
            fronts[-1][:, column] += root @ white
            means.append(mean.copy())
            means[-1][:, column] += white @ told
        std = std.copy()
        std[:, column] = np.sqrt(np.maximum(covariance.diagonal()[n:] - (told**2).sum(axis=0), 0.0))
        return fronts, means, std

    def _learn(self) -> None:
        """Fit the posteriors to the results, their hyperparameters now and then."""
        count = len(self._history)
        settled = not _REFIT_AFTER * self._fitted <= count <= _REFIT_UNTIL
        target = task_of(self._spec)
        for name in filter(is_accuracy, self._spec.quantities):
            told = all_observations(self._spec, self._history, name, self._evidence)
            like = self._posteriors.get(name)
            if not settled or like is None or like.tasks != {target, *(one.task for one in told)}:
                like = fit_posterior(_some_of_each_task(told, _FIT_TO), target=target, seed=self._seed)
                self._fitted = count
            self._told[name], self._estimated[name] = told, {}
            self._posteriors[name] = fit_posterior(told, target=target, seed=self._seed, like=like)

    def _losses(self, trials: Sequence[Trial]) -> tuple[FloatArray, FloatArray]:
        """Return (n, m) means and standard deviations of the losses' logarithms, NaN where nothing can be said."""
        goals = self._spec.objectives
        found = np.array([self._predict(one.name, trials) for one in goals])
        signs = [1 if is_accuracy(one.name) or one.direction == "minimize" else -1 for one in goals]
        return found[:, 0].T * signs, found[:, 1].T

    def _predict(self, name: str, trials: Sequence[Trial]) -> tuple[FloatArray, FloatArray]:
        """Return (n,) mean and standard deviation of a cost's logarithm, or of an accuracy's error's."""
        architectures = [one.candidate.architecture for one in trials]
        if is_accuracy(name):
            known = self._estimated[name]
            new = [one for one in architectures if one not in known]
            for one, estimate in zip(new, self._posteriors[name].estimate(new), strict=True):
                best, worst = (math.log(max(100 - end, 0.01)) for end in (estimate.high, estimate.low))
                known[one] = (best + worst) / 2, (worst - best) / (2 * _Z90)
            found = np.array([known[one] for one in architectures]).reshape(-1, 2)
            return found[:, 0], found[:, 1]
        if name in ("macs", "num_params") or name in self._spec.profiles:
            values = np.array([self._computed(name, one) for one in architectures])
            return np.log(values), np.zeros(len(values))
        (mean, std), least = self._regress(name, architectures), self._least(name)
        for row, trial in enumerate(trials):  # what was measured is known, also before what goes on from a rung
            value = self._results.get(trial.key, trial).values.get(name, math.nan)
            if not math.isnan(value):
                mean[row], std[row] = math.log(max(value, least)), 0.0
        return mean, std

    def _computed(self, name: str, architecture: Architecture) -> float:
        """Return a count, or a latency predicted from its profile; NaN where the profile has no term for a layer."""
        key = name, architecture
        if key not in self._known_costs:
            resolution, classes = self._spec.space.resolution, self._num_classes
            if name == "macs":
                value = float(count_macs(architecture, resolution=resolution, num_classes=classes))
            elif name == "num_params":
                value = float(count_params(architecture, num_classes=classes))
            else:
                profile = self._spec.profiles[name]
                try:
                    value = predict_latency(profile, architecture, resolution=resolution, num_classes=classes).value
                except EvaluationError:
                    value = math.nan
            self._known_costs[key] = value
        return self._known_costs[key]

    def _regress(self, name: str, architectures: Sequence[Architecture]) -> tuple[FloatArray, FloatArray]:
        """Return what a log-linear regression on the results says of a quantity that is only measured."""
        from sklearn.linear_model import BayesianRidge

        told = [
            one for one in (*self._results.values(), *self._untrained) if math.isfinite(one.values.get(name, math.nan))
        ]
        if len(told) < _FEWEST_TO_LEARN_FROM:
            return np.zeros(len(architectures)), np.ones(len(architectures))
        inputs = np.array([encode(one.candidate.architecture) for one in told])
        center, scale = inputs.mean(axis=0), np.maximum(inputs.std(axis=0), 1e-6)
        costs = np.maximum([one.values[name] for one in told], self._least(name))
        model = BayesianRidge().fit((inputs - center) / scale, np.log(costs))
        asked = (np.array([encode(one) for one in architectures]) - center) / scale
        mean, std = model.predict(np.clip(asked, -5, 5), return_std=True)
        return mean, std

    def _least(self, name: str) -> float:
        """Return what stands for costs of 0 in logarithms."""
        return _LEAST * min((one.values[name] for one in self._history if one.values.get(name, 0.0) > 0), default=1.0)

    def _chance(self, trials: Sequence[Trial]) -> FloatArray:
        """Return (n,) how probable it is that the constraints hold."""
        from scipy.special import ndtr

        chance = np.ones(len(trials))
        for one in self._spec.constraints:
            mean, std = self._predict(one.name, trials)
            for bound, sign in ((one.high, 1.0), (one.low, -1.0)):
                if bound is not None:
                    limit = math.log(max(100 - bound if is_accuracy(one.name) else bound, self._least(one.name)))
                    sign = -sign if is_accuracy(one.name) else sign
                    # What is known to lie at the limit keeps it.
                    chance *= ndtr((sign * (limit - mean) + _JITTER) / np.maximum(std, _JITTER / 10))
        return chance


def _some_of_each_task(told: Sequence[Observation], count: int) -> list[Observation]:
    """Return `count` of the observations in their order, the first of each task."""
    before = Counter[str]()
    turns = []
    for one in told:
        turns.append(before[one.task])
        before[one.task] += 1
    return [told[row] for row in sorted(np.argsort(turns, kind="stable")[:count])]

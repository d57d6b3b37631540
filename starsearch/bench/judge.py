"""`Judge`: what the table says of any network of the space, at one fidelity."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starsearch.bench.making import FIDELITIES
from starsearch.bench.networks import SEEDS, open_space
from starsearch.bench.table import LATENCY_ROWS, parse_curves, quiet_seconds, read_table, table_files
from starsearch.errors import StudyError
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import architecture_hash, parse_architecture
from starsearch.latency.device import Device
from starsearch.latency.prediction.calibration import fit_profile
from starsearch.latency.prediction.fitting import MIN_SAMPLES
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.predict import predict_latency
from starsearch.pareto import FloatArray

_FOLDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A network's curve of top-1 in percent by epoch, its training's seconds, and its latency in milliseconds."""

    curve: tuple[float, ...]
    seconds: float
    latency_ms: float


class Judge:
    """Knows the table's networks, and estimates all others of the space.

    Of a network in the table its accuracy is the mean over its seeds, after what a seed changes for all networks alike
    (it draws their images) is taken off. That of others is a ridge regression of the error's logarithm with extra trees
    (Geurts et al. 2006) on what it leaves: another kind of model than the Gaussian process with which a search may
    model accuracy, which its own kind would flatter. Each of them departs from it by a fixed draw, as far as networks
    do that the model has not seen. Their latency is predicted by a profile that is fitted to the table's, their seconds
    by MACs.

    Attributes:
        networks: the table's.
        curves: (networks, seeds, epochs), top-1 in percent; of a seed by which a network was not trained what follows
            from its others.
        digest: what tells apart tables that have other rows of these kinds.
        luck: (epochs, epochs), covariance of what a seed adds to a network's own curve; 0 where no two have all seeds.

    Args:
        table: the table's folder.
        fidelity: whose trainings are judged by.

    Raises:
        StudyError: there is no table, or it has too few rows for that.
    """

    def __init__(self, table: Path, fidelity: str) -> None:
        if not table_files(table):
            raise StudyError(
                f"There is no StarBench table in {table}. Name another folder, or make one: `starsearch bench make`."
            )
        rows, self.space = read_table(table), open_space()
        trained = rows[(rows["fidelity"] == fidelity) & rows["top1_percent"].notna() & (rows["seed"] < SEEDS)]
        latencies = rows[(rows["fidelity"] == LATENCY_ROWS) & rows["latency_ms"].notna()]
        if trained["network"].nunique() < _FOLDS or len(latencies) < MIN_SAMPLES:
            advice = (
                f"Make them with `starsearch bench make --fidelity {fidelity}` and `starsearch bench make --latency`."
                if fidelity in FIDELITIES
                else f"Name a fidelity that `starsearch bench make` knows: {', '.join(FIDELITIES)}."
            )
            raise StudyError(
                f"The table has {trained['network'].nunique()} networks trained at the fidelity {fidelity!r} and "
                f"{len(latencies)} latencies; at least {_FOLDS} and {MIN_SAMPLES} are needed. {advice}"
            )
        rests_on = [
            trained[["network", "seed", "curve", "seconds", "cpu_seconds", "threads"]],
            latencies[["network", "latency_ms"]],
        ]
        self.digest = hashlib.sha256("".join(one.to_csv(index=False) for one in rests_on).encode()).hexdigest()[:12]
        latency_ms: dict[str, float] = dict(zip(latencies["network"], latencies["latency_ms"], strict=True))
        device = Device(processor=str(latencies["device"].iloc[0]), threads=1, runtime="imported", optimization="all")
        self._profile = fit_profile(
            [Sample(architecture=text, ms=ms) for text, ms in latency_ms.items()],
            name="starbench",
            device=device,
            backend="imported",
            resolution=self.space.resolution,
            reference=None,
        )
        self._latency = {parse_architecture(text): ms for text, ms in latency_ms.items()}
        row, texts = pd.factorize(trained["network"])
        self.networks = tuple(map(parse_architecture, texts))
        found = parse_curves(trained)
        curves = np.full((len(texts), SEEDS, found.shape[1]), np.nan)  # NaN for a seed without a row
        curves[row, trained["seed"]] = found
        self.curves, self._truth, self.luck = _average(curves)
        self._rows = {one: row for row, one in enumerate(self.networks)}
        seconds = quiet_seconds(trained).groupby(row).mean()
        self._seconds = dict(zip(self.networks, seconds.tolist(), strict=True))
        macs = [count_macs(one) for one in self.networks]
        self._cost = np.polynomial.Polynomial.fit(macs, seconds, 1)
        self._model = _fit_top1(self.networks, self._truth)
        self._judged: dict[Architecture, Judgement] = {}
        self._residuals = self._leave_out()  # not later, by each process that replays
        # Of what sets a network apart from its estimate, without a training's luck.
        self._own: FloatArray = self._residuals.T @ self._residuals / len(self._residuals) - self.luck

    @property
    def noise(self) -> float:
        """Standard deviation that a seed adds to a network's own top-1, in points."""
        return math.sqrt(self.luck[-1, -1])

    def judge(self, architecture: Architecture) -> Judgement:
        """Return what is known or estimated of a network."""
        if architecture not in self._judged:
            self._judged[architecture] = self._judge(architecture)
        return self._judged[architecture]

    def _judge(self, architecture: Architecture) -> Judgement:
        row = self._rows.get(architecture)
        if row is None:
            estimated = self._model([architecture])[0]
            curve = np.clip(estimated + drawn(self._own, architecture_hash(architecture)), 0.0, 100.0)
        else:
            curve = self._truth[row]
        seconds, latency = self._seconds.get(architecture), self._latency.get(architecture)
        if latency is None:
            latency = predict_latency(self._profile, architecture, resolution=self.space.resolution).value
        if seconds is None:
            seconds = max(1.0, float(self._cost(count_macs(architecture))))
        return Judgement(curve=tuple(map(float, curve)), seconds=seconds, latency_ms=float(latency))

    @property
    def error(self) -> float:
        """Mean absolute error of the estimated top-1 of networks that the model has not seen, in points."""
        return float(np.abs(self._residuals[:, -1]).mean())

    def _leave_out(self) -> FloatArray:
        """(networks, epochs), by how much each network's curve departs from what the others let expect."""
        from sklearn.model_selection import KFold

        found = np.empty_like(self._truth)
        for kept, held_out in KFold(_FOLDS, shuffle=True, random_state=0).split(found):
            model = _fit_top1([self.networks[row] for row in kept], self._truth[kept])
            found[held_out] = self._truth[held_out] - model([self.networks[row] for row in held_out])
        return found


def drawn(covariance: FloatArray, seed: str) -> FloatArray:
    """Return (n,), normal values of a covariance, whose negative eigenvalues count as 0: the same for a seed."""
    rng = random.Random(seed)  # noqa: S311 — noise, not secrets
    values, vectors = np.linalg.eigh(covariance)
    found: FloatArray = vectors @ (np.sqrt(np.maximum(values, 0.0)) * [rng.gauss(0.0, 1.0) for _ in values])
    return found


def _average(found: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (networks, seeds, epochs) curves with none missing, their means without the seeds' effects, and the rest.

    The rest is the covariance of what is left. The model is that of an analysis of variance with two factors and no
    interaction: network + seed + noise.
    """
    repeated = found[~np.isnan(found).any(axis=(1, 2))]
    count = len(repeated)
    effects = (repeated - repeated[:, :1]).mean(axis=0) if count else np.zeros(found.shape[1:])
    truth: FloatArray = np.nanmean(found - effects, axis=1)
    filled: FloatArray = np.where(np.isnan(found), truth[:, None] + effects, found)
    if count < 2:
        return filled, truth, np.zeros((found.shape[2],) * 2)
    left = repeated - effects - (repeated - effects).mean(axis=1, keepdims=True)
    return filled, truth, np.einsum("nse,nsf->ef", left, left) / ((count - 1) * (SEEDS - 1))


def _fit_top1(networks: Sequence[Architecture], top1: FloatArray) -> Callable[[Sequence[Architecture]], FloatArray]:
    """Return what estimates (n, epochs) curves from (networks, epochs) of known ones."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    target = np.log(100.5 - top1)
    features = [_describe(one) for one in networks]
    linear = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), RidgeCV(alphas=np.logspace(-2, 3, 16)))
    linear.fit(features, target)
    vectorizer = DictVectorizer(sparse=False, dtype=np.float32)
    trees = ExtraTreesRegressor(n_estimators=50, min_samples_leaf=3, random_state=0)
    trees.fit(vectorizer.fit_transform(features), target - linear.predict(features))

    def predict(architectures: Sequence[Architecture]) -> FloatArray:
        described = [_describe(one) for one in architectures]
        inputs = vectorizer.transform(described)
        # Not by the forest's own predict, which takes ten times as long for a single network.
        rest = np.mean([tree.tree_.predict(inputs)[..., 0] for tree in trees.estimators_], axis=0)
        found = linear.predict(described).reshape(len(described), -1) + rest.reshape(len(described), -1)
        curves: FloatArray = np.clip(100.5 - np.exp(found), 0.0, 100.0)
        return curves

    return predict


def _describe(architecture: Architecture) -> dict[str, Any]:
    """The space's parameters and the logarithms of size and depth."""
    return {
        **open_space().encode_architecture(architecture),
        "log_macs": np.log(count_macs(architecture)),
        "log_params": np.log(count_params(architecture)),
        "log_depth": np.log(sum(architecture.depths)),
    }

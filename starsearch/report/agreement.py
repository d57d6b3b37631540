"""How far a cheap fidelity can be trusted: does it rank candidates as a dearer one does?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsearch.measurement import is_told_apart
from starsearch.objective import Objective, is_latency
from starsearch.report.front import RECIPE_COLUMN

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PUBLISHED_TOP1_PERCENT: Mapping[str, float] = {
    "starnet_s050": 55.7,
    "starnet_s100": 64.3,
    "starnet_s150": 68.0,
    "starnet_s1": 73.5,
    "starnet_s2": 74.8,
    "starnet_s3": 77.3,
    "starnet_s4": 78.4,
}
"""On ImageNet-1k at 224 px: "Rewrite the Stars", table 6; S050 to S150: its supplement, table 14."""

BAND = 1.15
"""Two candidates are of equal latency where the slower takes at most so many times as long."""

_LEAST = 3  # candidates that a coefficient is made of
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tau:
    """A rank correlation: Kendall's τ-b, or over some pairs only (concordant − discordant) / all of these.

    Attributes:
        value: from −1 to 1; NaN where there are too few candidates, or all are equal.
        low, high: 95 % interval, by the bootstrap over candidates.
        pairs: of candidates that were compared.
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def is_known(self) -> bool:
        """Whether there were enough candidates."""
        return not math.isnan(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How the candidates that were judged at both of two fidelities rank at each.

    Attributes:
        lower, upper: names of the fidelities.
        quantity: that is ranked by.
        candidates: judged at both, anchors included.
        overall: among all of them.
        in_bands: among pairs of equal latency (`BAND`): where a front is decided.
        best_tenth: among the best tenth at the upper fidelity (three candidates at least).
        best_count: how many these are.
        num_params: what counting parameters would have come to in place of the lower fidelity, overall.
        better_than_params: share of the resamples in which the lower fidelity ranks better than counting parameters.
        anchors: at each fidelity, how the anchors rank against their published ImageNet accuracy.
        inverted: at each fidelity, pairs of anchors (the one that is better as published, the other) out of order and
            told apart.
    """

    lower: str
    upper: str
    quantity: str
    candidates: int
    overall: Tau
    in_bands: Tau
    best_tenth: Tau
    best_count: int
    num_params: Tau
    better_than_params: float
    anchors: Mapping[str, Tau]
    inverted: Mapping[str, tuple[tuple[str, str], ...]]


def ranked_quantity(objectives: Sequence[Objective]) -> Objective | None:
    """The first objective that depends on how much is trained, an accuracy; None where there is none."""
    return next((one for one in objectives if "top1" in one.name or "top5" in one.name), None)


def candidate_keys(trials: pd.DataFrame) -> pd.Series[str]:
    """What makes a trial's candidate the same at every fidelity: an anchor's name, or architecture and searched recipe.

    An anchor is trained by each fidelity's own recipe.
    """
    searched = sorted(str(column) for column in trials if str(column).startswith(RECIPE_COLUMN))
    keys = trials["architecture"].astype(str)
    for column in searched:
        keys = keys + " " + trials[column].astype(str)
    return keys.where(trials["anchor"].isna(), "anchor " + trials["anchor"].astype(str))


def compare_fidelities(
    lower: pd.DataFrame, upper: pd.DataFrame, objectives: Sequence[Objective], *, seed: int = 0
) -> Agreement | None:
    """The agreement of two fidelities; None where fewer than three candidates were judged at both.

    Args:
        lower: trials of the cheaper fidelity.
        upper: of the dearer one.
        objectives: of the study.
        seed: of the bootstrap.
    """
    ranked = ranked_quantity(objectives)
    if ranked is None:
        return None
    both = _judged_at_both(lower, upper, ranked)
    if len(both) < _LEAST:
        return None
    rng = np.random.default_rng(seed)
    below, above = both["lower"].to_numpy(float), both["upper"].to_numpy(float)
    params = both["num_params"].to_numpy(float) if "num_params" in both else np.full(len(both), np.nan)
    fidelities = {str(lower["fidelity"].iloc[0]): lower, str(upper["fidelity"].iloc[0]): upper}
    names = list(fidelities)
    best = np.argsort(-above, kind="stable")[: max(_LEAST, math.ceil(len(both) / 10))]
    return Agreement(
        lower=names[0],
        upper=names[1],
        quantity=ranked.name,
        candidates=len(both),
        overall=kendall(below, above, rng=rng),
        in_bands=kendall(below, above, rng=rng, pairs=_of_equal_latency(both, objectives)),
        best_tenth=kendall(below[best], above[best], rng=rng),
        best_count=len(best),
        num_params=kendall(params, above, rng=rng),
        better_than_params=_share_better(below, params, above, rng),
        anchors={name: _anchors_tau(trials, ranked, rng) for name, trials in fidelities.items()},
        inverted={name: _inverted(trials, ranked) for name, trials in fidelities.items()},
    )


def kendall(x: FloatArray, y: FloatArray, *, rng: np.random.Generator, pairs: BoolArray | None = None) -> Tau:
    """Kendall's τ-b of two rankings of the same n things, with its bootstrap interval.

    Args:
        x: (n,).
        y: (n,).
        rng: of the bootstrap.
        pairs: (n, n), symmetric: which pairs count; None for all.
    """
    chosen = np.ones((len(x), len(x)), dtype=bool) if pairs is None else pairs
    signs_x, signs_y = (np.sign(one[:, None] - one[None, :]) for one in (x, y))
    count = int(np.triu(chosen, 1).sum())
    nothing = Tau(value=math.nan, low=math.nan, high=math.nan, pairs=count)
    if len(x) < _LEAST or count < _LEAST or np.isnan(x).any() or np.isnan(y).any():
        return nothing
    value = _tau(signs_x, signs_y, chosen)
    if math.isnan(value):
        return nothing
    resampled = [
        _tau(signs_x[np.ix_(rows, rows)], signs_y[np.ix_(rows, rows)], chosen[np.ix_(rows, rows)])
        for rows in rng.integers(0, len(x), (_RESAMPLES, len(x)))
    ]
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    if low == high:  # all in one order: so are all resamples, however few the candidates
        low, high = _normal_interval(value, len(x), count)
    return Tau(value=value, low=float(low), high=float(high), pairs=count)


def _normal_interval(value: float, candidates: int, pairs: int) -> tuple[float, float]:
    """95 %, by Fisher's transformation (Fieller, Hartley and Pearson, "Tests for rank correlation coefficients", 1957).

    Three or four candidates in one order say nothing: from −1 to 1.
    """
    if candidates <= 4:
        return -1.0, 1.0
    half = 1.96 * math.sqrt(0.437 / (candidates - 4))
    centre = math.atanh(math.copysign(min(abs(value), 1 - 1 / pairs), value))
    ends = math.tanh(centre - half), math.tanh(centre + half)
    return (ends[0], max(value, ends[1])) if value > 0 else (min(value, ends[0]), ends[1])


def candidates_to_tell(tau: float) -> int:
    """Return how many candidates put the lower end of the 95 % interval of `tau` within 0.2 of it.

    By the same transformation; a bootstrap's interval is about as wide.
    """
    tau = min(max(tau, -0.75), 0.95)
    half = math.atanh(tau) - math.atanh(tau - 0.2)
    return math.ceil(4 + 0.437 * (1.96 / half) ** 2)


def _tau(signs_x: FloatArray, signs_y: FloatArray, chosen: BoolArray) -> float:
    """τ-b over the chosen pairs; of a thing and its copy in a resample both signs are 0, so that they do not count."""
    both = (signs_x * signs_y * chosen).sum()
    norm = math.sqrt(float((signs_x**2 * chosen).sum()) * float((signs_y**2 * chosen).sum()))
    return float(both) / norm if norm else math.nan


def _judged_at_both(lower: pd.DataFrame, upper: pd.DataFrame, ranked: Objective) -> pd.DataFrame:
    """A row a candidate: its values at both, higher better."""
    sign = 1.0 if ranked.direction == "maximize" else -1.0
    complete = [trials[trials["state"] == "COMPLETE"] for trials in (lower, upper)]
    below, above = (trials.assign(key=candidate_keys(trials)).drop_duplicates("key") for trials in complete)
    found = below.merge(above[["key", ranked.name]], on="key", suffixes=("", "_above"))
    return found.assign(lower=sign * found[ranked.name], upper=sign * found[f"{ranked.name}_above"])


def _of_equal_latency(both: pd.DataFrame, objectives: Sequence[Objective]) -> BoolArray:
    name = next((one.name for one in objectives if is_latency(one.name)), "macs")
    if name not in both:
        return np.zeros((len(both), len(both)), dtype=bool)
    log = np.log(both[name].to_numpy(float))
    return np.asarray(np.abs(log[:, None] - log[None, :]) <= math.log(BAND))


def _share_better(below: FloatArray, params: FloatArray, above: FloatArray, rng: np.random.Generator) -> float:
    if np.isnan(params).any():
        return math.nan
    signs = [np.sign(one[:, None] - one[None, :]) for one in (below, params, above)]
    better: list[bool] = []
    for rows in rng.integers(0, len(above), (_RESAMPLES, len(above))):
        a, b, c = (one[np.ix_(rows, rows)] for one in signs)
        every = np.ones_like(a, dtype=bool)
        ours, theirs = _tau(a, c, every), _tau(b, c, every)
        if not (math.isnan(ours) or math.isnan(theirs)):
            better.append(ours > theirs)
    return float(np.mean(better)) if better else math.nan


def _anchors_tau(trials: pd.DataFrame, ranked: Objective, rng: np.random.Generator) -> Tau:
    reached = _anchor_values(trials, ranked)
    published = np.array([PUBLISHED_TOP1_PERCENT[name] for name in reached], dtype=float)
    return kendall(np.array(list(reached.values()), dtype=float), published, rng=rng)


def _inverted(trials: pd.DataFrame, ranked: Objective) -> tuple[tuple[str, str], ...]:
    """The pairs that are out of their published order and told apart."""
    reached = _anchor_values(trials, ranked)
    spreads = trials.get(f"{ranked.name}_spread", trials[ranked.name] * math.nan)
    errors = dict(zip(trials["anchor"].where(trials["state"] == "COMPLETE"), spreads, strict=True))
    return tuple(
        (better, worse)
        for better, worse in itertools.combinations(sorted(reached, key=lambda one: -PUBLISHED_TOP1_PERCENT[one]), 2)
        if reached[better] < reached[worse]
        and is_told_apart(reached[worse] - reached[better], errors[better], errors[worse])
    )


def _anchor_values(trials: pd.DataFrame, ranked: Objective) -> dict[str, float]:
    """What each anchor has reached, higher better."""
    sign = 1.0 if ranked.direction == "maximize" else -1.0
    complete = trials[(trials["state"] == "COMPLETE") & trials["anchor"].isin(list(PUBLISHED_TOP1_PERCENT))]
    return {str(row["anchor"]): sign * float(row[ranked.name]) for _, row in complete.iterrows()}


def agreement_lines(found: Agreement) -> list[str]:
    """What a reader should know of an agreement, in sentences."""
    name = f"{found.lower} → {found.upper}"
    taus = (
        f"Kendall τ {_words(found.overall)} overall, {_words(found.in_bands)} among pairs of equal latency, "
        f"{_words(found.best_tenth)} among the best {found.best_count}"
    )
    counting = f"counting parameters would rank with τ {_words(found.num_params)}"
    if not math.isnan(found.better_than_params):
        counting += f"; {found.lower} ranks better in {found.better_than_params:.0%} of the resamples"
    lines = [f"{name}: {found.candidates} candidates judged at both. {taus}.", f"{name}: {counting}."]
    if found.overall.is_known and found.overall.low < 0.3:
        lines.append(
            f"Warning: the order at {found.lower} says little of that at {found.upper}: τ may be as low as "
            f"{_number(found.overall.low)}. Promote more candidates, or look for a better proxy by `starsearch plan`."
        )
    for fidelity, pairs in found.inverted.items():
        if pairs:
            listed = ", ".join(f"{better} below {worse}" for better, worse in pairs[:4])
            others = len(pairs) - 4
            more = f" and {others} more {'pair' if others == 1 else 'pairs'}" if others > 0 else ""
            lines.append(
                f"Warning: at {fidelity} the published networks are not in their published order: {listed}{more} "
                f"(τ {_words(found.anchors[fidelity])})."
            )
    return lines


def _words(tau: Tau) -> str:
    if not tau.is_known:
        return f"unknown ({tau.pairs} pair{'s' if tau.pairs != 1 else ''})"
    return f"{_number(tau.value)} ({_number(tau.low)} to {_number(tau.high)})"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")

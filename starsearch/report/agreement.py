"""How far a lower fidelity can be trusted: does it rank candidates as a higher one does?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from starsearch.errors import some
from starsearch.measurement import is_told_apart
from starsearch.objective import Objective, is_latency
from starsearch.report.front import RECIPE_COLUMN, BoolArray, FloatArray, errors_of, loss_matrix

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
        pairs: how many pairs of candidates were compared.
    """

    value: float
    low: float
    high: float
    pairs: int

    @property
    def is_known(self) -> bool:
        """Whether there were enough candidates."""
        return not math.isnan(self.value)

    def __str__(self) -> str:
        """The coefficient with its interval in words."""
        if not self.is_known:
            return f"unknown ({self.pairs} pair{'s' if self.pairs != 1 else ''})"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})".replace("-", "−")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How the candidates that were judged at both of two fidelities rank at each, anchors included.

    Attributes:
        in_bands: τ among pairs of equal latency (`BAND`): where a front is decided.
        best_tenth: among the best tenth at the upper fidelity: `best_count`, three at least.
        num_params: τ of counting parameters in place of the lower fidelity.
        better_than_params: share of the resamples in which the lower fidelity ranks better than that.
        anchors: by fidelity, how the anchors rank against their published ImageNet accuracy.
        inverted: by fidelity, pairs of anchors (the better one as published, the other) out of order and told apart.
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


def candidate_keys(trials: pd.DataFrame) -> pd.Series[str]:
    """Return what makes a trial's candidate the same at every fidelity: an anchor's name, or network and recipe.

    An anchor is trained by each fidelity's own recipe.
    """
    keys = trials["architecture"].astype(str)
    for column in sorted(str(column) for column in trials if str(column).startswith(RECIPE_COLUMN)):
        keys = keys + " " + trials[column].astype(str)
    return keys.where(trials["anchor"].isna(), "anchor " + trials["anchor"].astype(str))


def compare_fidelities(
    lower: pd.DataFrame, upper: pd.DataFrame, objectives: Sequence[Objective], *, seed: int = 0
) -> Agreement | None:
    """Return how the trials of two fidelities agree on the first accuracy; None where fewer than three have both."""
    ranked = next((one for one in objectives if "top1" in one.name or "top5" in one.name), None)
    both = pd.DataFrame() if ranked is None else _judged_at_both(lower, upper, ranked)
    if ranked is None or len(both) < _LEAST:
        return None
    rng = np.random.default_rng(seed)
    below, above, params = (both[name].to_numpy(float) for name in ("below", "above", "num_params"))
    fidelities = {str(trials["fidelity"].iloc[0]): trials for trials in (lower, upper)}
    lower_name, upper_name = fidelities
    best = np.argsort(-above, kind="stable")[: max(_LEAST, math.ceil(len(both) / 10))]
    return Agreement(
        lower=lower_name,
        upper=upper_name,
        quantity=ranked.name,
        candidates=len(both),
        overall=kendall(below, above, rng=rng),
        in_bands=kendall(below, above, rng=rng, pairs=_of_equal_latency(both, objectives)),
        best_tenth=kendall(below[best], above[best], rng=rng),
        best_count=len(best),
        num_params=kendall(params, above, rng=rng),
        better_than_params=_share_better(below, params, above, seed),
        anchors={name: _anchors_tau(trials, ranked, rng) for name, trials in fidelities.items()},
        inverted={name: _inverted(trials, ranked) for name, trials in fidelities.items()},
    )


def kendall(x: FloatArray, y: FloatArray, *, rng: np.random.Generator, pairs: BoolArray | None = None) -> Tau:
    """Return Kendall's τ-b of two rankings (n,) of the same things, with its bootstrap interval.

    Only `pairs` count, (n, n) and symmetric: a choice that SciPy's `kendalltau` does not offer.
    """
    chosen = np.ones((len(x), len(x)), dtype=bool) if pairs is None else pairs
    count = int(np.triu(chosen, 1).sum())
    nothing = Tau(value=math.nan, low=math.nan, high=math.nan, pairs=count)
    if len(x) < _LEAST or count < _LEAST or np.isnan(x).any() or np.isnan(y).any():
        return nothing
    value = _tau(x, y, chosen)
    if math.isnan(value):
        return nothing
    low, high = np.nanquantile(_resampled(x, y, chosen, rng), [0.025, 0.975])
    if low == high:  # all in one order: so are all resamples, however few the candidates
        low, high = _normal_interval(value, len(x), count)
    return Tau(value=value, low=float(low), high=float(high), pairs=count)


def _resampled(x: FloatArray, y: FloatArray, chosen: BoolArray, rng: np.random.Generator) -> FloatArray:
    rows = rng.integers(0, len(x), (_RESAMPLES, len(x)))
    return np.array([_tau(x[one], y[one], chosen[np.ix_(one, one)]) for one in rows])


def _tau(x: FloatArray, y: FloatArray, chosen: BoolArray) -> float:
    """Return τ-b over the chosen pairs; a thing and its copy in a resample do not count, since both signs are 0."""
    signs_x, signs_y = (np.sign(one[:, None] - one[None, :]) * chosen for one in (x, y))
    norm = math.sqrt(float((signs_x**2).sum()) * float((signs_y**2).sum()))
    return float((signs_x * signs_y).sum()) / norm if norm else math.nan


def _normal_interval(value: float, candidates: int, pairs: int) -> tuple[float, float]:
    """Return 95 % by Fisher's transformation (Fieller, Hartley, Pearson, "Tests for rank correlation", 1957).

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


def _judged_at_both(lower: pd.DataFrame, upper: pd.DataFrame, ranked: Objective) -> pd.DataFrame:
    """Return the lower fidelity's rows, with the candidate's values at both, `below` and `above`: higher is better."""
    complete = [trials[trials["state"] == "COMPLETE"] for trials in (lower, upper)]
    keyed = [
        rows.assign(key=candidate_keys(rows), value=-loss_matrix(rows, [ranked])[:, 0]).drop_duplicates("key")
        for rows in complete
    ]
    found = keyed[0].rename(columns={"value": "below"}).merge(keyed[1][["key", "value"]], on="key")
    found = found.rename(columns={"value": "above"})
    return found if "num_params" in found else found.assign(num_params=np.nan)


def _of_equal_latency(both: pd.DataFrame, objectives: Sequence[Objective]) -> BoolArray:
    name = next((one.name for one in objectives if is_latency(one.name)), "macs")
    log = np.log(both[name].to_numpy(float) if name in both else np.full(len(both), np.nan))
    return np.asarray(np.abs(log[:, None] - log[None, :]) <= math.log(BAND))


def _share_better(below: FloatArray, params: FloatArray, above: FloatArray, seed: int) -> float:
    """Return in which share of the resamples, the same of both, `below` ranks as `above` better than `params` does."""
    every = np.ones((len(above), len(above)), dtype=bool)
    ours, theirs = (_resampled(x, above, every, np.random.default_rng(seed)) for x in (below, params))
    known = ~np.isnan(ours - theirs)
    return float((ours > theirs)[known].mean()) if known.any() else math.nan


def _reached_anchors(trials: pd.DataFrame, ranked: Objective) -> dict[str, tuple[float, float]]:
    """Return what each anchor has reached (higher better) with its standard error, the best as published first."""
    rows = trials[(trials["state"] == "COMPLETE") & trials["anchor"].isin(list(PUBLISHED_TOP1_PERCENT))]
    values = zip(-loss_matrix(rows, [ranked])[:, 0], errors_of(rows, ranked.name), strict=True)
    found = dict(zip(rows["anchor"], values, strict=True))
    return {name: found[name] for name in sorted(found, key=lambda name: -PUBLISHED_TOP1_PERCENT[name])}


def _anchors_tau(trials: pd.DataFrame, ranked: Objective, rng: np.random.Generator) -> Tau:
    anchors = _reached_anchors(trials, ranked)
    published = np.array([PUBLISHED_TOP1_PERCENT[name] for name in anchors])
    return kendall(np.array([reached for reached, _ in anchors.values()]), published, rng=rng)


def _inverted(trials: pd.DataFrame, ranked: Objective) -> tuple[tuple[str, str], ...]:
    """Return the pairs that are out of their published order and told apart."""
    pairs = itertools.combinations(_reached_anchors(trials, ranked).items(), 2)
    return tuple(
        (better, worse)
        for (better, (high, error)), (worse, (low, other)) in pairs
        if high < low and is_told_apart(low - high, error, other)
    )


def agreement_lines(found: Agreement) -> list[str]:
    """Return what a reader should know of an agreement, in sentences."""
    name = f"{found.lower} → {found.upper}"
    taus = (
        f"Kendall τ {found.overall} overall, {found.in_bands} among pairs of equal latency, {found.best_tenth} among "
        f"the best {found.best_count}"
    )
    counting = f"counting parameters would rank with τ {found.num_params}"
    if not math.isnan(found.better_than_params):
        counting += f"; {found.lower} ranks better in {found.better_than_params:.0%} of the resamples"
    lines = [f"{name}: {found.candidates} candidates judged at both. {taus}.", f"{name}: {counting}."]
    if found.overall.is_known and found.overall.low < 0.3:
        low = f"{found.overall.low:.2f}".replace("-", "−")
        lines.append(
            f"Warning: the order at {found.lower} says little about that at {found.upper}: τ may be as low as {low}. "
            "Promote more candidates, or look for a better proxy by `starsearch plan`."
        )
    for fidelity, pairs in found.inverted.items():
        if pairs:
            listed = some((f"{better} below {worse}" for better, worse in pairs), most=4)
            lines.append(
                f"Warning: at {fidelity} the published networks are not in their published order: {listed} "
                f"(τ {found.anchors[fidelity]})."
            )
    return lines

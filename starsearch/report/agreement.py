"""How far a lower fidelity can be trusted: does it rank candidates as a higher one does?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from starsearch.accuracy.audit import LEAST, Audit, Tau, kendall
from starsearch.accuracy.audit import audit as audit_ranking
from starsearch.accuracy.evidence import published_top1_percent
from starsearch.errors import some
from starsearch.families.family import presets
from starsearch.measurement import is_told_apart
from starsearch.objective import Objective, is_latency
from starsearch.report.front import RECIPE_COLUMN, FloatArray, errors_of, loss_matrix

PUBLISHED_TOP1_PERCENT: Mapping[str, float] = {
    name: published_top1_percent()[architecture.canonical()]
    for name, architecture in presets().items()
    if architecture.canonical() in published_top1_percent()
}
"""On ImageNet-1k at 224 px: "Rewrite the Stars", table 6; S050 to S150: its supplement, table 14."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(Audit):
    """How the candidates that were judged at both of two fidelities rank at each, anchors included.

    Attributes:
        anchors: by fidelity, how the anchors rank against their published ImageNet accuracy.
        inverted: by fidelity, pairs of anchors (the better one as published, the other) out of order and told apart.
    """

    lower: str
    upper: str
    quantity: str
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


def accuracy_of(objectives: Sequence[Objective]) -> Objective | None:
    """Return the first accuracy among objectives."""
    return next((one for one in objectives if "top1" in one.name or "top5" in one.name), None)


def compare_fidelities(
    lower: pd.DataFrame, upper: pd.DataFrame, objectives: Sequence[Objective], *, seed: int = 0
) -> Agreement | None:
    """Return how the trials of two fidelities agree on the first accuracy; None where fewer than three have both."""
    ranked = accuracy_of(objectives)
    both = pd.DataFrame() if ranked is None else judged_at_both(lower, upper, ranked)
    if ranked is None or len(both) < LEAST:
        return None
    below, above, params = (both[name].to_numpy(float) for name in ("below", "above", "num_params"))
    judged = audit_ranking(below, above, num_params=params, cost=costs(both, objectives), seed=seed)
    fidelities = {str(trials["fidelity"].iloc[0]): trials for trials in (lower, upper)}
    lower_name, upper_name = fidelities
    rng = np.random.default_rng(seed)
    reached = {name: _reached_anchors(trials, ranked) for name, trials in fidelities.items()}
    return Agreement(
        **{one.name: getattr(judged, one.name) for one in fields(judged)},
        lower=lower_name,
        upper=upper_name,
        quantity=ranked.name,
        anchors={name: _anchors_tau(anchors, rng) for name, anchors in reached.items()},
        inverted={name: _inverted(anchors) for name, anchors in reached.items()},
    )


def candidates_to_tell(tau: float) -> int:
    """Return how many candidates put the lower end of the 95 % interval of `tau` within 0.2 of it.

    By the same transformation; a bootstrap's interval is about as wide.
    """
    tau = min(max(tau, -0.75), 0.95)
    half = math.atanh(tau) - math.atanh(tau - 0.2)
    return math.ceil(4 + 0.437 * (1.96 / half) ** 2)


def judged_at_both(lower: pd.DataFrame, upper: pd.DataFrame, ranked: Objective) -> pd.DataFrame:
    """Return the lower fidelity's rows, with the candidate's values at both, `below` and `above`: higher is better."""
    complete = [trials[trials["state"] == "COMPLETE"] for trials in (lower, upper)]
    keyed = [
        rows.assign(key=candidate_keys(rows), value=-loss_matrix(rows, [ranked])[:, 0]).drop_duplicates("key")
        for rows in complete
    ]
    found = keyed[0].rename(columns={"value": "below"}).merge(keyed[1][["key", "value"]], on="key")
    found = found.rename(columns={"value": "above"})
    return found if "num_params" in found else found.assign(num_params=np.nan)


def costs(trials: pd.DataFrame, objectives: Sequence[Objective]) -> FloatArray:
    """Return by what trials are of equal cost: the first latency among the objectives, else multiply-adds."""
    name = next((one.name for one in objectives if is_latency(one.name)), "macs")
    return trials[name].to_numpy(float) if name in trials else np.full(len(trials), np.nan)


def _reached_anchors(trials: pd.DataFrame, ranked: Objective) -> dict[str, tuple[float, float]]:
    """Return what each anchor has reached (higher better) with its standard error, the best as published first."""
    rows = trials[(trials["state"] == "COMPLETE") & trials["anchor"].isin(list(PUBLISHED_TOP1_PERCENT))]
    values = zip(-loss_matrix(rows, [ranked])[:, 0], errors_of(rows, ranked.name), strict=True)
    found = dict(zip(rows["anchor"], values, strict=True))
    return {name: found[name] for name in sorted(found, key=lambda name: -PUBLISHED_TOP1_PERCENT[name])}


def _anchors_tau(anchors: Mapping[str, tuple[float, float]], rng: np.random.Generator) -> Tau:
    published = np.array([PUBLISHED_TOP1_PERCENT[name] for name in anchors])
    return kendall(np.array([reached for reached, _ in anchors.values()]), published, rng=rng)


def _inverted(anchors: Mapping[str, tuple[float, float]]) -> tuple[tuple[str, str], ...]:
    """Return the pairs that are out of their published order and told apart."""
    pairs = itertools.combinations(anchors.items(), 2)
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

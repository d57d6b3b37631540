"""How well predictions fit what was measured afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from starsearch.objective import Objective
from starsearch.quantities import quantity
from starsearch.resources import shipped_names

_CONFIDENCE = 0.9  # of prediction intervals
_SIGNIFICANCE = 0.01  # how often a profile that holds is called broken


def prediction_errors(
    trials: pd.DataFrame, front: pd.DataFrame, objectives: Sequence[Objective]
) -> dict[str, dict[str, Any]]:
    """Return by predicted quantity how far off the predictions were, ready for JSON.

    `networks` that were measured after they had been predicted, `mape_percent` (mean absolute error in percent of the
    measured value; None without any), `inside` (how many lie in their 90 % interval), `only_predicted` (front members
    that were not measured), `corrected_percent` (by how much the measured ones move the other predictions; None without
    others) and `repair` (the command that makes a better profile where more lie outside than chance explains; else
    None).
    """
    from scipy.stats import binom

    profiles = {one.name: one.device for one in objectives}
    members = front["number"][front["on_front"]]
    found: dict[str, dict[str, Any]] = {}
    for name in (str(column).removesuffix("_predicted") for column in trials if str(column).endswith("_predicted")):
        pairs = predicted_and_measured(trials, name)
        inside = int(pairs["measured"].between(pairs["low"], pairs["high"]).sum())
        unmeasured = trials[trials[f"{name}_kind"] == "predicted"]
        moved = (unmeasured[name] / unmeasured[f"{name}_predicted"]).median() if len(pairs) else np.nan
        chance = binom.sf(len(pairs) - inside - 1, len(pairs), 1 - _CONFIDENCE) if len(pairs) else 1.0
        found[name] = {
            "networks": len(pairs),
            "mape_percent": float(pairs["error_percent"].abs().mean()) if len(pairs) else None,
            "inside": inside,
            "only_predicted": int(unmeasured["number"].isin(members).sum()),
            "corrected_percent": float(100 * (moved - 1)) if np.isfinite(moved) else None,
            "repair": _repair(trials, name, profiles.get(name)) if chance < _SIGNIFICANCE else None,
        }
    return found


def _repair(trials: pd.DataFrame, name: str, profile: str | None) -> str:
    """Return the command that adapts a profile to what it was measured to be wrong about."""
    base = profile if profile in shipped_names("profiles") else f"{profile or 'PROFILE'}.yaml"
    options = trials.attrs.get("fit_options", {}).get(name, f"--from {base}")  # older studies do not say which files
    command = f"starsearch latency fit --out {profile or 'better'}-2.yaml {options}"
    if f"{name}_runs" in trials and trials[f"{name}_runs"].notna().any():  # measured in pairs, so `fit` can do it too
        return f"{command} --budget 10"
    return f'{command} --measurements FILE.csv --device "WHAT WAS MEASURED"'


def predicted_and_measured(trials: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a row a network that was predicted and then measured.

    The columns are `number`, `architecture_text`, `measured`, `predicted`, `low`, `high` (of the 90 % interval) and
    `error_percent`, positive where the prediction was too large.
    """
    rows = trials[trials[f"{name}_predicted"].notna() & (trials[f"{name}_kind"] == "measured")]
    columns = {"number": "number", "architecture_text": "architecture_text", name: "measured"}
    columns |= {f"{name}_{end}": end for end in ("predicted", "low", "high", "error_percent")}
    # Reindexed: a study of which nothing has been measured has no column of errors.
    pairs = rows.drop_duplicates("architecture").reindex(columns=list(columns))
    return pairs.rename(columns=columns).reset_index(drop=True)


def prediction_lines(errors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what `prediction_errors` found, a line a quantity."""
    return [_line(quantity(name).label, found) for name, found in errors.items()]


def _line(label: str, found: Mapping[str, Any]) -> str:
    networks, only = found["networks"], found["only_predicted"]
    if not networks:
        return f"{label} is predicted; none of it has been measured."
    text = (
        f"{label}: predictions were off by {found['mape_percent']:.1f} % on average over {networks} measured "
        f"network{'' if networks == 1 else 's'}; {found['inside']} of them within the 90 % interval."
    )
    if only:
        text += f" {only} on the front {'is' if only == 1 else 'are'} predicted only."
    if (corrected := found["corrected_percent"]) is not None:
        text += f" What was not measured is corrected accordingly, by {corrected:+.1f} % (median)."
    if found["repair"] is not None:
        text += f" The profile does not hold; repair it: {found['repair']}"
    return text

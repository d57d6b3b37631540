"""Made-up trials with the columns that a study's record has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from starsearch.families.family import Architecture, count_macs, count_params, presets
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.objective import Objective
from starsearch.report.view import StudyView
from starsearch.study.study_file import load_specs

DEVICE = "test CPU, 1 thread"
ACCURACY = Objective(name="top1_percent", direction="maximize")
LATENCY = Objective(name="latency_ms", direction="minimize", device=DEVICE)
PARAMS = Objective(name="num_params", direction="minimize")
BOTH = (ACCURACY, LATENCY)
FAMILY = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")


def trial(number: int, *, anchor: str | None = None, width: int = 8, **values: Any) -> dict[str, Any]:
    """A complete, feasible trial of an own architecture; `values` overrides any column."""
    architecture = presets()[anchor] if anchor else Architecture.of(embed_dim=width, depths=(1, 1, 2 + number % 11, 1))
    return {
        "number": number,
        "state": "COMPLETE",
        "fidelity": "proxy",
        "anchor": anchor,
        "architecture": architecture_hash(architecture),
        "architecture_text": format_architecture(architecture),
        "top1_percent": 60.0,
        "latency_ms": 5.0,
        "latency_ms_spread": 0.02,
        "latency_ms_runs": 40,
        "latency_ms_device": DEVICE,
        "macs": float(count_macs(architecture)),
        "num_params": float(count_params(architecture)),
        "feasible": True,
        "reason": None,
        "data": "digits",
        "seed": 0,
        "started": pd.Timestamp("2026-01-01", tz="UTC"),
        "seconds": 10.0,
        "weights": None,
        "params_embed_dim": architecture.embed_dim,
        "params_depths.2": architecture.depths[2],
        "params_ops.0": ("star", "sum")[number % 2],
        "recipe": "{}",
    } | values


def failed(number: int, reason: str = "The loss became NaN in epoch 2.") -> dict[str, Any]:
    """A failed trial: nothing is measured."""
    unmeasured = dict.fromkeys(("top1_percent", "latency_ms", "latency_ms_spread", "macs", "num_params"), np.nan)
    return trial(number, state="FAIL", reason=reason, feasible=None, **unmeasured)


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def realistic_trials(num_searched: int = 30, *, seed: int = 0) -> pd.DataFrame:
    """S1–S4, then searched networks around them; the last trial failed and the one before breaks a constraint."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_searched + len(FAMILY)):
        anchor = FAMILY[number] if number < len(FAMILY) else None
        row = trial(number, anchor=anchor, width=int(rng.integers(4, 12)) * 4)
        row["latency_ms"] = 1 + row["macs"] / 1e8 * rng.normal(1, 0.03)
        row["top1_percent"] = 75 - 20 * np.exp(-row["macs"] / 3e8) + rng.normal(0, 1)
        rows.append(row)
    rows[-2]["feasible"] = False
    rows[-1] = failed(len(rows) - 1)
    return frame(rows)


def view(trials: pd.DataFrame, objectives: Sequence[Objective] = BOTH, **values: Any) -> StudyView:
    trials = frame([trial(0)]).iloc[:0] if trials.empty else trials  # a study without trials has all columns
    (spec,) = load_specs({"space": "starnet"}, name="few")
    names = {name: replace(spec.fidelity, name=name) for name in trials["fidelity"].dropna()}
    spec = replace(spec, objectives=tuple(objectives), fidelity=next(iter(names.values()), spec.fidelity))
    known = {"name": "few", "spec": spec, "attributes": {}, "url": "", "folder": None}
    return StudyView(trials=trials, **known | values)

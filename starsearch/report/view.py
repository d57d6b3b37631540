"""`StudyView`: a study at one fidelity as tables, pictures and pages show it; every part is computed at most once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from starsearch.objective import IMAGENET_TOP1, Objective
from starsearch.pareto import non_dominated_probability
from starsearch.records.table import CUT_OFF, FOREIGN, NOT_TRAINED, RecordedStudy
from starsearch.report.agreement import Agreement, agreement_lines, compare_fidelities
from starsearch.report.front import complete_trials, draw_errors, front_table, knee
from starsearch.report.summary import (
    best_values,
    compare_hypervolumes,
    halving_lines,
    nearest_miss,
    prediction_errors,
)

_CELLS = {"": "value", "_low": "low", "_high": "high", "_kind": "kind"}  # of a table, and of what was estimated


@dataclass(frozen=True, kw_only=True)
class StudyView(RecordedStudy):
    """A recorded study.

    Attributes:
        lower: the same study at its lower fidelities, the nearest first.
        peers: other networks measured on the study's device (`starsearch.latency.peers.peer_table`); None where none
            were.
    """

    lower: tuple[StudyView, ...] = ()
    peers: pd.DataFrame | None = None

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is optimised."""
        return self.spec.objectives

    @property
    def fidelity(self) -> str:
        """The name of the fidelity."""
        return self.spec.fidelity.name

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The complete trials, each anchor once."""
        return complete_trials(self.trials, self.objectives)

    @cached_property
    def front(self) -> pd.DataFrame:
        """The front with all anchors (`front_table`)."""
        return front_table(self.trials, self.objectives)

    @property
    def has_front(self) -> bool:
        """Whether any trial is on the front."""
        return bool(self.front["on_front"].any())

    @cached_property
    def knee(self) -> int | None:
        """The number of the trial at the front's knee; None without a front."""
        return knee(self.front, self.objectives) if self.has_front else None

    @cached_property
    def on_front_probability(self) -> pd.Series[float]:
        """By a trial's number, how probably it is non-dominated among the feasible; empty where nothing has an error.

        Values are drawn around what was measured by their standard errors, independently; estimates by their intervals.
        A probability is rounded to whole percents, here alone: what shows it cannot differ.
        """
        rows = self.complete[self.complete["feasible"]].drop_duplicates(["architecture", "recipe"])
        errors = np.column_stack([draw_errors(rows, one.name) for one in self.objectives])
        if not np.nan_to_num(errors).any():
            return pd.Series(dtype=float)
        signs = [1.0 if one.direction == "minimize" else -1.0 for one in self.objectives]
        losses = rows[[one.name for one in self.objectives]].to_numpy(float) * signs
        found = non_dominated_probability(losses, errors, rng=np.random.default_rng(0))
        return pd.Series(found, index=rows["number"]).round(2)

    @cached_property
    def hypervolume(self) -> dict[str, Any] | None:
        """The front's hypervolume beside that of the published networks; None without a front."""
        return compare_hypervolumes(self.front, self.objectives) if self.has_front else None

    @cached_property
    def estimated(self) -> StudyView | None:
        """The same networks by estimated ImageNet top-1 in place of trained; None where that was not estimated."""
        if not (known := self.attributes.get("estimates", {}).get("networks")):
            return None
        said = [known.get(one, {}) for one in self.trials["architecture"]]
        cells = {f"{IMAGENET_TOP1}{end}": [one.get(key) for one in said] for end, key in _CELLS.items()}
        objectives = tuple(
            replace(one, name=IMAGENET_TOP1) if one.name == "top1_percent" else one for one in self.objectives
        )
        spec = replace(self.spec, objectives=objectives)
        return replace(self, trials=self.trials.assign(**cells), spec=spec, lower=())

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """What estimates rest on, by `task`: how many `observations`, their learned `weight`, and its `meaning`."""
        return list(self.attributes.get("estimates", {}).get("tasks", ()))

    @property
    def evidence_lines(self) -> list[str]:
        """What else there is to say of estimates, in sentences; none where nothing was estimated."""
        return list(self.attributes.get("estimates", {}).get("lines", ()))

    @cached_property
    def predictions(self) -> dict[str, dict[str, Any]]:
        """How far off predictions were, by quantity (`prediction_errors`)."""
        return prediction_errors(self.trials, self.front, self.spec)

    @cached_property
    def miss(self) -> dict[str, Any] | None:
        """Which constraints are broken, where every complete trial breaks one (`nearest_miss`)."""
        return nearest_miss(self.complete)

    @cached_property
    def untrained_miss(self) -> dict[str, Any] | None:
        """The same of the trials that were not trained, where no complete one is feasible."""
        is_missed = not self.complete["feasible"].any()
        return nearest_miss(self.trials[self.trials["state"] == NOT_TRAINED]) if is_missed else None

    @property
    def halving(self) -> list[str]:
        """What successive halving saved, in sentences; none without it."""
        return halving_lines(self.trials, self.spec)

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """How far each fidelity can be trusted for the one above it, from the highest pair down."""
        pairs = itertools.pairwise((self, *self.lower))
        found = (compare_fidelities(lower.trials, upper.trials, upper.objectives) for upper, lower in pairs)
        return tuple(one for one in found if one is not None)

    @property
    def agreement_lines(self) -> list[str]:
        """The agreements in sentences."""
        return [line for one in self.agreements for line in agreement_lines(one)]

    def count(self, state: str) -> int:
        """Return how many trials are in a state (`RecordedStudy`)."""
        return int((self.trials["state"] == state).sum())

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the study came to, ready for JSON.

        `trials`, `complete`, `failed`, `interrupted` (to run again), `repeated` (interrupted, but by a later
        trial repeated), `stopped` (at a rung), `unfinished`, `untrained`
        (breaking a constraint before that), `infeasible` (complete, but breaking one), `foreign` (made or ended by
        other programs): counts. `seconds`: spent by all trials together. `on_front`: members of the front; `knee`: the
        trial at its knee, or None. `best`: by objective the best feasible `value`, its `spread` (None without one) and
        trial `number`. `hypervolume`: `compare_hypervolumes`, or None. `miss` (of complete trials) and
        `untrained_miss`: `nearest_miss`, or None. `predictions`: `prediction_errors`, where anything was predicted.
        """
        cut_off = self.trials["number"][self.trials["state"] == CUT_OFF]
        is_repeated = cut_off.isin(self.trials["retry_of"].dropna() if "retry_of" in self.trials else ())
        found = {
            "trials": len(self.trials),
            "complete": self.count("COMPLETE"),
            "failed": self.count("FAIL"),
            "interrupted": int((~is_repeated).sum()),
            "repeated": int(is_repeated.sum()),
            "stopped": self.count("PRUNED"),
            "untrained": self.count(NOT_TRAINED),
            "infeasible": int((~self.complete["feasible"]).sum()),
            "foreign": self.count(FOREIGN),
            "unfinished": self.count("RUNNING"),
            "miss": self.miss,
            "untrained_miss": self.untrained_miss,
            "seconds": float(self.trials["seconds"].sum()),
            "on_front": int(self.front["on_front"].sum()),
            "knee": self.knee,
            "best": best_values(self.complete, self.objectives),
            "hypervolume": self.hypervolume,
        }
        return found | ({"predictions": self.predictions} if self.predictions else {})

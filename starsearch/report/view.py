"""`StudyView`: a study at one fidelity as tables, pictures and pages show it; every part is computed at most once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from starsearch.objective import IMAGENET_TOP1, Objective
from starsearch.report.agreement import Agreement, agreement_lines, compare_fidelities
from starsearch.report.front import complete_trials, front_table, knee
from starsearch.report.predictions import prediction_errors
from starsearch.report.summary import best_values, compare_hypervolumes, halving_lines, nearest_miss
from starsearch.study.spec import StudySpec

_CELLS = {"": "value", "_low": "low", "_high": "high", "_kind": "kind"}  # of a table, and of what was estimated


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """A study at one fidelity, read from its record.

    Attributes:
        trials: one row each (`starsearch.records.table.load_trials`).
        objectives: at least one.
        attributes: what the record says of the study: command, spec, data, halving.
        name, url: the study's in its storage, and the storage's.
        folder: the one of its weights and logs; None for a study named by its storage alone.
        lower: the same study at its lower fidelities, the nearest first.
    """

    trials: pd.DataFrame
    objectives: tuple[Objective, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    url: str = ""
    folder: Path | None = None
    lower: tuple[StudyView, ...] = ()

    @cached_property
    def spec(self) -> StudySpec | None:
        """What the study's file said; None where the record does not hold it."""
        kept = self.attributes.get("spec")
        return None if kept is None else StudySpec.from_json(kept)

    @property
    def fidelity(self) -> str:
        """The name of the fidelity; "" where that is not known."""
        known = self.trials["fidelity"].dropna().tolist() if "fidelity" in self.trials else []
        return next(iter(known), "") if self.spec is None else self.spec.fidelity.name

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
        return replace(
            self,
            trials=self.trials.assign(**cells),
            objectives=tuple(
                replace(one, name=IMAGENET_TOP1) if one.name == "top1_percent" else one for one in self.objectives
            ),
            lower=(),
        )

    @property
    def evidence_lines(self) -> list[str]:
        """What estimates rest on, in sentences; none where nothing was estimated."""
        return list(self.attributes.get("estimates", {}).get("lines", ()))

    @cached_property
    def predictions(self) -> dict[str, dict[str, Any]]:
        """How far off predictions were, by quantity (`prediction_errors`)."""
        return prediction_errors(self.trials, self.front, self.objectives)

    @cached_property
    def miss(self) -> dict[str, Any] | None:
        """Which constraints are broken, where every complete trial breaks one (`nearest_miss`)."""
        return nearest_miss(self.complete)

    @property
    def halving(self) -> list[str]:
        """What successive halving saved, in sentences; none without it."""
        return [] if self.spec is None else halving_lines(self.trials, self.spec)

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
        """Return how many trials are in a state: Optuna's, or FOREIGN."""
        return int((self.trials["state"] == state).sum()) if "state" in self.trials else 0

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the study came to, ready for JSON.

        `trials`, `complete`, `failed`, `stopped` (at a rung), `infeasible` (complete, but breaking a constraint),
        `foreign` (made or ended by other programs): counts. `seconds`: spent by all trials together. `on_front`:
        members of the front; `knee`: the trial at its knee, or None. `best`: by objective the best feasible `value`,
        its `spread` (None without one) and trial `number`. `hypervolume`: `compare_hypervolumes`, or None.
        `miss`: `nearest_miss`, or None. `predictions`: `prediction_errors`, where anything was predicted.
        """
        found = {
            "trials": len(self.trials),
            "complete": self.count("COMPLETE"),
            "failed": self.count("FAIL"),
            "stopped": self.count("PRUNED"),
            "infeasible": int((~self.complete["feasible"]).sum()),
            "foreign": self.count("FOREIGN"),
            "miss": self.miss,
            "seconds": float(self.trials["seconds"].sum()) if "seconds" in self.trials else 0.0,
            "on_front": int(self.front["on_front"].sum()),
            "knee": self.knee,
            "best": best_values(self.complete, self.objectives),
            "hypervolume": self.hypervolume,
        }
        return found | ({"predictions": self.predictions} if self.predictions else {})

"""How many candidates a study has judged, and what it knew of them before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from starsearch.candidate import Candidate
from starsearch.records import latest_readings, recorded_candidate, recorded_measurements
from starsearch.search.events import TrialEnded
from starsearch.search.outcome import judge
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.records.measured import Measured


class Tally:
    """Counts candidates, each once, however many trials its training was made of."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._searched: set[str] = set()
        self._anchors: set[str] = set()

    def judged(self, candidate: Candidate) -> None:
        """A candidate was trained to its end, or to a rung."""
        (self._searched if candidate.anchor is None else self._anchors).add(candidate.key)

    def searched(self, *, running: Iterable[Candidate]) -> int:
        """Candidates the search has chosen: judged, or `running`."""
        return len(self._searched | {one.key for one in running if one.anchor is None})

    @property
    def finished(self) -> int:
        """Candidates that are judged, with anchors."""
        return len(self._searched) + len(self._anchors)

    @property
    def wanted(self) -> int:
        """That the study shall have, with anchors."""
        return self._spec.trials + self._spec.num_anchor_trials


def recall(recorded: Sequence[FrozenTrial], spec: StudySpec, measured: Measured) -> Iterator[TrialEnded]:
    """What a run finds in the record: the complete trials, by measured values where there are such, and the stopped."""
    for trial in recorded:
        if trial.state.name not in ("COMPLETE", "PRUNED"):
            continue
        is_complete = trial.state.name == "COMPLETE"
        readings = (
            latest_readings(trial.user_attrs, measured)
            if is_complete
            else measured.corrected(recorded_measurements(trial))
        )
        yield TrialEnded(
            number=trial.number,
            candidate=recorded_candidate(trial, spec.recipe),
            state="complete" if is_complete else "pruned",
            measurements=readings,
            feasible=judge(readings, spec.objectives, spec.constraints).feasible,
            seconds=trial.user_attrs.get("seconds", 0.0),
            epochs=trial.user_attrs.get("epochs"),
        )

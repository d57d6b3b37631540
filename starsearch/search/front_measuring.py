"""`measure_front`: what was predicted of the front's members is measured before they are shown."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from starsearch.errors import BackendError, EvaluationError, ExportError
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement, Prediction
from starsearch.objective import losses
from starsearch.pareto import non_dominated
from starsearch.progress import Progress
from starsearch.records import (
    Lease,
    StudyRecord,
    keep_measured,
    measured_afterwards,
    merge_measured,
    merge_violations,
    recorded_candidate,
    recorded_measurements,
)
from starsearch.search.events import Event, FrontProgressed, MemberMeasured
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.records.measured import Measured

Meter = Callable[[Architecture], Generator[Progress, None, Measurement]]
"""Measures an architecture on the device that one quantity is about; returns the measurement under that name."""

# A round ends with a front that its measurements may have changed. Three or four are usual; a study whose profile is
# far off would measure all it has dominated, one after the other.
_MAX_ROUNDS = 20
# Of a network or of what was to measure it (a library that does not load, a format that cannot be written): the trials
# are complete by then, so the prediction stays and the study goes on.
_NOT_MEASURED = (EvaluationError, BackendError, ExportError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """A prediction that is on show and not measured yet."""

    trial: FrozenTrial
    prediction: Prediction

    @property
    def key(self) -> tuple[str, str]:
        """Architecture's hash and quantity's name: what a measurement is kept under."""
        return self.trial.user_attrs["architecture"], self.prediction.name


def measure_front(
    spec: StudySpec, record: StudyRecord, lease: Lease, meters: Mapping[str, Meter], watch: Callable[[Event], None]
) -> None:
    """Measure what `meters` can of the front's members and the anchors, until those on the front are all measured.

    A measured value stands in for the predicted one, so members may leave the front and others come: these are
    measured in turn. What is kept is not measured again, so an interrupted call is gone on with by the next.

    Args:
        spec: of the study.
        record: of the same study.
        lease: on it.
        meters: by the name of the quantity ("latency_ms@phone"); what has none stays predicted.
        watch: is told of each measurement and of one that failed, whose prediction then stays.

    Raises:
        StudyLeasedError: the lease is lost.
        StudyError: the storage fails.
    """
    done: set[tuple[str, str]] = set()
    for _ in range(_MAX_ROUNDS if meters else 0):
        due = [one for one in _due(spec, record, meters) if one.key not in done]
        if not due:
            return
        wanted = len(done) + len(due)
        for one in due:
            _measure(one, spec, record, lease, meters[one.prediction.name], watch, (len(done), wanted))
            done.add(one.key)


def _measure(
    due: _Due,
    spec: StudySpec,
    record: StudyRecord,
    lease: Lease,
    meter: Meter,
    watch: Callable[[Event], None],
    count: tuple[int, int],
) -> None:
    """Measure and keep one; `count` is how many have been before it, and of how many."""
    candidate, number = recorded_candidate(due.trial, spec.recipe), due.trial.number
    measurement, reason = None, None
    lease.check()
    try:
        steps = meter(candidate.architecture)
        while True:
            watch(FrontProgressed(measured=count[0], wanted=count[1], number=number, progress=next(steps)))
    except StopIteration as stop:
        measurement = stop.value
        lease.check()
        keep_measured(record, due.key[0], measurement)
    except _NOT_MEASURED as error:
        reason = str(error)
    watch(
        MemberMeasured(
            number=number, candidate=candidate, prediction=due.prediction, measurement=measurement, reason=reason
        )
    )


def _due(spec: StudySpec, record: StudyRecord, meters: Mapping[str, Meter]) -> list[_Due]:
    """Predictions of what would be shown now, one an architecture and quantity, in the order of the trials."""
    complete = [trial for trial in record.trials() if trial.state.name == "COMPLETE"]
    measured = measured_afterwards(record.attributes(), complete)
    found: dict[tuple[str, str], _Due] = {}
    for trial in _shown(spec, complete, measured):
        for reading in recorded_measurements(trial):
            if isinstance(reading, Prediction) and reading.name in meters:
                due = _Due(trial=trial, prediction=reading)
                if due.key not in measured:
                    found.setdefault(due.key, due)
    return list(found.values())


def _shown(spec: StudySpec, complete: Sequence[FrozenTrial], measured: Measured) -> list[FrozenTrial]:
    """The feasible trials that no other dominates, by measured values where there are such, and every anchor."""
    feasible = [
        trial
        for trial in complete
        if all(broken <= 0 for broken in merge_violations(trial.constraints, trial.user_attrs, measured).values())
    ]
    front: set[int] = set()
    if feasible:
        values = [losses(merge_measured(trial.user_attrs, measured), spec.objectives) for trial in feasible]
        on_front = non_dominated(np.array(values, dtype=float))
        front = {trial.number for trial, is_member in zip(feasible, on_front, strict=True) if is_member}
    return [trial for trial in complete if trial.number in front or "anchor" in trial.user_attrs]

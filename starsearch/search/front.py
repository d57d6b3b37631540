"""`measure_front`: what was predicted of the front's members is measured before they are shown."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial

import numpy as np

from starsearch.errors import BackendError, EvaluationError, ExportError
from starsearch.measurement import Measurement, Prediction
from starsearch.pareto import non_dominated
from starsearch.progress import Progress, follow
from starsearch.records.record import StudyRecord
from starsearch.search.events import Event, FrontProgressed, MemberMeasured
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

Meter = Callable[..., Generator[Progress, None, Measurement]]
"""Measures an architecture on the device that one quantity is about; returns the measurement under that name.

It takes another `resolution` in pixels than the study's by keyword.
"""

# A round ends with a front that its measurements may have changed. Three or four are usual; a study whose profile is
# far off would measure all it has dominated, one after the other.
_MAX_ROUNDS = 20
# Of a network or of what was to measure it (a library that does not load, a format that cannot be written): the trials
# are complete by then, so the prediction stays and the study continues.
_NOT_MEASURED = (EvaluationError, BackendError, ExportError)

Key = tuple[str, str]  # the candidate's network and quantity's name: what a measurement is kept under


def measure_front(
    spec: StudySpec, record: StudyRecord, meters: Mapping[str, Meter], watch: Callable[[Event], None]
) -> None:
    """Measure what `meters` can of the front's members and the anchors, until those on the front are all measured.

    A measured value replaces the predicted one, so members may leave the front and others come: these are measured in
    turn. What is kept is not measured again, so the next call continues an interrupted one.
    """
    done: set[Key] = set()
    for _ in range(_MAX_ROUNDS if meters else 0):
        due = {key: one for key, one in _find_due(spec, record, meters).items() if key not in done}
        if not due:
            return
        wanted = len(done) + len(due)
        for (architecture, name), (trial, prediction) in due.items():

            def show(step: Progress, trial: Trial = trial, measured: int = len(done), wanted: int = wanted) -> None:
                watch(FrontProgressed(measured=measured, wanted=wanted, trial=trial, progress=step))

            measurement, reason = None, None
            try:
                pixels = trial.candidate.resolution
                meter = partial(meters[name], resolution=pixels) if pixels else meters[name]
                measurement = follow(meter(trial.candidate.architecture), show)
                record.keep_measured(architecture, measurement)
            except _NOT_MEASURED as error:
                reason = str(error)
            watch(MemberMeasured(trial=trial, prediction=prediction, measurement=measurement, reason=reason))
            done.add((architecture, name))


def _find_due(spec: StudySpec, record: StudyRecord, meters: Mapping[str, Meter]) -> dict[Key, tuple[Trial, Prediction]]:
    """Return the predictions of what would be shown now, one an architecture and quantity, in the order of trials."""
    complete = [trial for trial in record.trials() if trial.state == "complete"]
    measured = record.measured()
    found: dict[Key, tuple[Trial, Prediction]] = {}
    on_show = _numbers_shown([measured.latest(trial) for trial in complete], spec)
    for trial in complete:
        for reading in trial.readings if trial.number in on_show else ():
            key = trial.candidate.network, reading.name
            if isinstance(reading, Prediction) and reading.name in meters and key not in measured:
                found.setdefault(key, (trial, reading))
    return found


def _numbers_shown(complete: Sequence[Trial], spec: StudySpec) -> set[int]:
    """Return the numbers of the feasible trials that no other dominates, and of every anchor."""
    feasible = [trial for trial in complete if trial.is_feasible(spec.constraints)]
    on_front = non_dominated(np.array([trial.losses(spec.objectives) for trial in feasible])) if feasible else ()
    front = {trial.number for trial, is_member in zip(feasible, on_front, strict=True) if is_member}
    return front | {trial.number for trial in complete if trial.is_anchor}

"""Results at rest: an Optuna storage, the only record. No other package touches a storage.

storage        a URL becomes an Optuna storage, to write or only to read; its errors become `StudyError`s
journal        Optuna's journal file, torn lines moved aside before anything is appended
transactions   every call of Optuna that is not public
attributes     what a trial says of its candidate and its measurements, as user attributes
distributions  the space's parameters as Optuna's
open_study     `OpenStudy`: a study opened to write its own attributes
patience       connections that outwait a locked database or a restarted server
record         `StudyRecord`: one study as its driver writes it
measured       what was measured after a trial had ended
dashboard      broken constraints, as optuna-dashboard wants them
lease          one live driver a study
table          the trials as a pandas DataFrame
"""

from starsearch.records.attributes import (
    DRIVER_DIED,
    READING_SUFFIXES,
    reading_names,
    recorded_candidate,
    recorded_measurements,
    recorded_reading,
    sampler_attributes,
    unfinished,
)
from starsearch.records.dashboard import show_constraints
from starsearch.records.distributions import parameter_distributions
from starsearch.records.lease import Lease, hold_lease, working_driver
from starsearch.records.measured import (
    keep_measured,
    latest_readings,
    measured_afterwards,
    merge_measured,
    merge_violations,
)
from starsearch.records.open_study import OpenStudy
from starsearch.records.record import HALVING, LADDER, StudyRecord
from starsearch.records.storage import open_storage, quiet_optuna, shown
from starsearch.records.table import (
    EXCESS,
    RecordedStudy,
    load_attributes,
    load_devices,
    load_fidelities,
    load_objectives,
    load_trials,
    study_names,
)

__all__ = [
    "DRIVER_DIED",
    "EXCESS",
    "HALVING",
    "LADDER",
    "READING_SUFFIXES",
    "Lease",
    "OpenStudy",
    "RecordedStudy",
    "StudyRecord",
    "hold_lease",
    "keep_measured",
    "latest_readings",
    "load_attributes",
    "load_devices",
    "load_fidelities",
    "load_objectives",
    "load_trials",
    "measured_afterwards",
    "merge_measured",
    "merge_violations",
    "open_storage",
    "parameter_distributions",
    "quiet_optuna",
    "reading_names",
    "recorded_candidate",
    "recorded_measurements",
    "recorded_reading",
    "sampler_attributes",
    "show_constraints",
    "shown",
    "study_names",
    "unfinished",
    "working_driver",
]

"""Results at rest: an Optuna storage, the only record. No other package touches a storage.

storage    a URL becomes an Optuna storage, to write or only to read; its errors become `StudyError`s
journal    Optuna's journal file, torn lines moved aside before anything is appended
trials     a `Trial` as Optuna keeps it
record     `StudyRecord`: one study as its driver writes it
lock       one live driver for each study
measured   what was measured after a trial had ended
table      studies to be read: specs, and trials as a pandas DataFrame
dashboard  broken constraints for optuna-dashboard
"""

from starsearch.records.dashboard import show_constraints
from starsearch.records.lock import working_driver
from starsearch.records.record import DRIVER_DIED, FIDELITIES, StudyRecord, hold_lease
from starsearch.records.storage import open_storage, quiet_optuna, shown
from starsearch.records.table import (
    EXCESS,
    READING_SUFFIXES,
    RecordedStudy,
    load_attributes,
    load_fidelities,
    load_study,
    load_trials,
    reading_names,
    recorded_reading,
    study_names,
)
from starsearch.records.trials import parameter_distributions, sampler_attributes

__all__ = [
    "DRIVER_DIED",
    "EXCESS",
    "FIDELITIES",
    "READING_SUFFIXES",
    "RecordedStudy",
    "StudyRecord",
    "hold_lease",
    "load_attributes",
    "load_fidelities",
    "load_study",
    "load_trials",
    "open_storage",
    "parameter_distributions",
    "quiet_optuna",
    "reading_names",
    "recorded_reading",
    "sampler_attributes",
    "show_constraints",
    "shown",
    "study_names",
    "working_driver",
]

"""The use cases: what the command line and a notebook call."""

from __future__ import annotations

from starsearch.api.data_checking import DataCheck, check_data
from starsearch.api.exporting import Exported, export_networks
from starsearch.api.latency import (
    Imported,
    calibrate_device,
    check_profile,
    import_measurements,
    measure_architecture,
    open_profile,
    predict_architectures,
    profile_of_measurements,
    write_kit,
)
from starsearch.api.planning import Plan, plan_study
from starsearch.api.run import RunOutcome, run_study_file
from starsearch.api.spaces import check_file, describe_space, sample_space
from starsearch.api.study import Study, load_study, serve_dashboard, study_status, write_study_report
from starsearch.api.training import Trained, read_trained, run_training
from starsearch.api.training_job import TrainingJob, plan_training
from starsearch.api.tuning import TunedRecipe, TuneOutcome, tune_recipe
from starsearch.api.validation import Validation, validate_network

__all__ = [
    "DataCheck",
    "Exported",
    "Imported",
    "Plan",
    "RunOutcome",
    "Study",
    "Trained",
    "TrainingJob",
    "TuneOutcome",
    "TunedRecipe",
    "Validation",
    "calibrate_device",
    "check_data",
    "check_file",
    "check_profile",
    "describe_space",
    "export_networks",
    "import_measurements",
    "load_study",
    "measure_architecture",
    "open_profile",
    "plan_study",
    "plan_training",
    "predict_architectures",
    "profile_of_measurements",
    "read_trained",
    "run_study_file",
    "run_training",
    "sample_space",
    "serve_dashboard",
    "study_status",
    "tune_recipe",
    "validate_network",
    "write_kit",
    "write_study_report",
]

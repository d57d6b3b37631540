"""The use cases: what the command line and a notebook call."""

from __future__ import annotations

from starsearch.api.exporting import Exported, export_study
from starsearch.api.latency import measure_architecture
from starsearch.api.reading import FrontView, serve_dashboard, study_front, study_status, write_study_report
from starsearch.api.running import RunOutcome, run_study_file
from starsearch.api.spaces import check_file, describe_space, sample_space

__all__ = [
    "Exported",
    "FrontView",
    "RunOutcome",
    "check_file",
    "describe_space",
    "export_study",
    "measure_architecture",
    "run_study_file",
    "sample_space",
    "serve_dashboard",
    "study_front",
    "study_status",
    "write_study_report",
]

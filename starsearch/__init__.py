"""starsearch: architecture and recipe search over the star-operation design space (StarNet, "Rewrite the Stars").

Every public name is imported when it is first used. `import starsearch.timm_models` registers the networks with timm.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0.dev0"

TYPE_CHECKING = False  # as type checkers know it: importing typing would take longer than all of this module
if TYPE_CHECKING:
    from starsearch.api.exporting import export_networks as export_networks
    from starsearch.api.latency import measure_latency as measure_latency
    from starsearch.api.latency import predict_latency as predict_latency
    from starsearch.api.run import run as run
    from starsearch.api.study import Study as Study
    from starsearch.api.study import load_study as load_study
    from starsearch.api.training import train as train
    from starsearch.api.validation import validate as validate
    from starsearch.families.family import Architecture as Architecture
    from starsearch.families.family import count_macs as count_macs
    from starsearch.families.family import count_params as count_params
    from starsearch.families.network import build_model as build_model
    from starsearch.families.text import format_architecture as format_architecture
    from starsearch.families.text import parse_architecture as parse_architecture
    from starsearch.space import SearchSpace as SearchSpace
    from starsearch.study.spec import StudySpec as StudySpec
    from starsearch.study.study_file import load_specs as load_specs

_HOMES = {
    "Architecture": "starsearch.families.family",
    "SearchSpace": "starsearch.space",
    "Study": "starsearch.api.study",
    "StudySpec": "starsearch.study.spec",
    "build_model": "starsearch.families.network",
    "count_macs": "starsearch.families.family",
    "count_params": "starsearch.families.family",
    "export_networks": "starsearch.api.exporting",
    "format_architecture": "starsearch.families.text",
    "load_specs": "starsearch.study.study_file",
    "load_study": "starsearch.api.study",
    "measure_latency": "starsearch.api.latency",
    "parse_architecture": "starsearch.families.text",
    "predict_latency": "starsearch.api.latency",
    "run": "starsearch.api.run",
    "train": "starsearch.api.training",
    "validate": "starsearch.api.validation",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604, RUF100


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

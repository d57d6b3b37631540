"""An architecture in any of the forms a user may write."""

from __future__ import annotations

import re
from pathlib import Path

from starsearch.architecture import Architecture, parse_architecture
from starsearch.errors import ArchitectureError, StudyError


def find_architecture(text: str) -> Architecture:
    """The canonical architecture that `text` names.

    A name (starnet_s1), one line (starnet:embed_dim=24,depths=2-2-8-3), a YAML file of fields, or a study's trial
    (studies/starnet:7; split at the last colon before digits).

    Raises:
        ArchitectureError: the text, or the file's fields, cannot be read.
        SpecError: the file is not YAML.
        StudyError: no such study or trial.
    """
    if Path(text).is_file():
        return _of_file(Path(text))
    trial = re.fullmatch(r"(.+):(\d+)", text)
    return _of_trial(trial[1], int(trial[2])) if trial else parse_architecture(text)


def _of_file(path: Path) -> Architecture:
    from starsearch.yaml_file import read_yaml

    file = read_yaml(path)
    if not isinstance(file.data, dict):
        raise file.error((), "an architecture is a mapping of fields, as embed_dim: 24.")
    values = {str(name): tuple(value) if isinstance(value, list) else value for name, value in file.data.items()}
    try:
        return Architecture.of(**values).canonical()
    except ArchitectureError as error:
        raise file.error((), str(error)) from None


def _of_trial(study: str, number: int) -> Architecture:
    from starsearch.api.reading import study_front

    trials = study_front(study).trials
    found = trials[trials["number"] == number]
    if found.empty:
        raise StudyError(f"The study {study} has no trial {number}.")
    return parse_architecture(str(found["architecture_text"].iloc[0]))

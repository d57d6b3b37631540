"""The errors a user of starsearch may meet.

    StarsearchError                  says the rule, what came, and what to do
    ├── ArchitectureError            an architecture that cannot exist, or its text cannot be read
    ├── SpecError                    a YAML file (space, study, recipe) that breaks a rule
    ├── DataError                    a data set that is missing, unreadable or not the study's
    ├── AccuracyError                an observation of an accuracy that cannot be one
    ├── BackendError                 a latency backend that is not known, or that this machine cannot run
    ├── StudyError                   a study that is missing, damaged or cannot be written
    │   ├── StudyChangedError        the file says something else than the study was begun with
    │   └── StudyLeasedError         another live driver works on the study
    ├── EvaluationError              one candidate's fault: a failed trial, never a dead study
    │   ├── TrainingDivergedError    the loss became NaN or infinite
    │   ├── TimeLimitError           the candidate took longer than it may
    │   └── WorkerLostError          a process that reads images was killed
    ├── TrainingStoppedError         a training was asked to stop, and is kept where it was
    └── ExportError                  a file that was written but does not read back as the model

The command line prints a `StarsearchError` and exits with code 2; no traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StarsearchError(Exception):
    """Base of every error whose text is meant for the user."""


class ArchitectureError(StarsearchError, ValueError):
    """An architecture breaks a rule, or its text cannot be read."""


class SpecError(StarsearchError, ValueError):
    """A file the user wrote breaks a rule; the text names file and line."""


class DataError(StarsearchError):
    """A data set is missing, unreadable, or differs from the study's."""


class AccuracyError(StarsearchError, ValueError):
    """An observation of an accuracy cannot be one."""


class BackendError(StarsearchError):
    """A latency backend is not known, or lacks something on this machine; the text says what and how to get it."""


class StudyError(StarsearchError):
    """A study is missing, damaged, or cannot be written."""


class StudyChangedError(StudyError):
    """The study was begun with another space, data set or objective."""


class StudyLeasedError(StudyError):
    """Another live driver works on this study."""


class EvaluationError(StarsearchError):
    """One candidate could not be evaluated; its trial fails with this reason."""


class TrainingDivergedError(EvaluationError):
    """The training loss became NaN or infinite."""


class TimeLimitError(EvaluationError):
    """The candidate took longer than its fidelity allows."""


class WorkerLostError(EvaluationError):
    """A process that reads images for a training was killed."""


class TrainingStoppedError(StarsearchError):
    """A training was asked to stop; its checkpoint is where it was, and nobody is at fault."""


class ExportError(StarsearchError):
    """An exported file does not read back as the model it was made from."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the words " Did you mean 'x'?" for the known name nearest to `name`; empty when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's text; its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def counted(number: int, noun: str) -> str:
    """Return "1 trial", "2 trials"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Iterable[object], most: int = 3) -> str:
    """Return the first `most` names and how many more there are: "a, b, c and 4 more"."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more

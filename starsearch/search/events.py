"""What the driver tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from starsearch.candidate import Candidate
from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A candidate is being evaluated; `continues` is the number of the trial with whose training this one goes on."""

    number: int
    candidate: Candidate
    continues: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialProgressed:
    """An evaluation has come further."""

    number: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial is in the record. `reason` says why it failed; `measurements` (and predictions) are empty then.

    "pruned" is stopped at a rung: `measurements` are what it had reached after `epochs`.
    """

    number: int
    candidate: Candidate
    state: Literal["complete", "pruned", "fail"]
    measurements: tuple[Reading, ...] = ()
    feasible: bool = True
    reason: str | None = None
    seconds: float = 0.0
    epochs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStarted:
    """The driver holds the study. `finished` of `wanted` trials are there; anchors are counted in both.

    `earlier` are the complete trials of the record, so that a watcher knows the front from the start.
    """

    finished: int
    wanted: int
    resumed: bool
    earlier: tuple[TrialEnded, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProgressed:
    """The front's members are being measured; what is measured may bring others to the front, and `wanted` grows.

    Attributes:
        measured: how many measurements have ended.
        wanted: how many the front as it is now takes.
        number: the trial whose architecture is being measured.
        progress: of this measurement.
    """

    measured: int
    wanted: int
    number: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMeasured:
    """What was predicted of a member of the front has been measured; `reason` says why it could not be."""

    number: int
    candidate: Candidate
    prediction: Prediction
    measurement: Measurement | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEnded:
    """The driver has let go of the study. `why`: "complete", "interrupted", "time budget" or "space exhausted"."""

    finished: int
    wanted: int
    why: Literal["complete", "interrupted", "time budget", "space exhausted"]


Event = StudyStarted | TrialStarted | TrialProgressed | TrialEnded | FrontProgressed | MemberMeasured | StudyEnded

"""What the driver tells a watcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from starsearch.measurement import Measurement, Prediction
from starsearch.progress import Progress
from starsearch.trial import Trial

Why = Literal["complete", "interrupted", "time budget", "space exhausted", "nothing feasible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyStarted:
    """The driver holds the study.

    Attributes:
        finished, wanted: judged candidates and how many there should be, both with anchors.
        earlier: trials that have a result, by what is known of them now, so that a watcher knows the front at once.
    """

    finished: int
    wanted: int
    resumed: bool
    earlier: tuple[Trial, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    """A candidate is being evaluated; `why` says what is expected of it, where the sampler knows."""

    trial: Trial
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialProgressed:
    """An evaluation has advanced."""

    trial: Trial
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial has ended and is in the record; predictions in its readings are corrected by what was measured."""

    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProgressed:
    """The front's members are being measured; a measurement may bring others to the front, and `wanted` grows.

    `progress` is that of the measurement of the architecture of `trial`.
    """

    measured: int
    wanted: int
    trial: Trial
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMeasured:
    """What was predicted of a member of the front has been measured; `reason` says why it could not be."""

    trial: Trial
    prediction: Prediction
    measurement: Measurement | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEnded:
    """The driver has released the study."""

    finished: int
    wanted: int
    why: Why


Event = StudyStarted | TrialStarted | TrialProgressed | TrialEnded | FrontProgressed | MemberMeasured | StudyEnded

"""What a reproduction finds, and the two ways in which claims are judged."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from starsearch.progress import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from starsearch.data import DataSet

Scale = Literal["small", "paper"]
Verdict = Literal["held", "did not hold", "could not be told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a reproduction is run.

    Attributes:
        scale: "small" for two cores, "paper" for ImageNet and the paper's recipe.
        seeds: how often each training is repeated, with other seeds.
        data: what is trained on; None where nothing is.
        folder: where trainings are kept while they are made.
        epochs: of each training, where it is not the scale's number.
    """

    scale: Scale
    seeds: int
    data: DataSet | None
    folder: Path
    epochs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found beside what is published.

    Attributes:
        rows: one a published figure: what it is of, "published", "here", and what else there is to say.
        verdict: whether the claim held at this scale.
        sentence: the verdict with its figures.
        figure: a picture, where the paper has one.
    """

    rows: pd.DataFrame
    verdict: Verdict
    sentence: str
    figure: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A table, figure or claim of the paper that can be rerun.

    Attributes:
        title: where it stands in the paper, and what it shows.
        claim: what the paper concludes from it.
        find: reruns it, yielding progress.
        needs_data: whether networks are trained on images.
        hours: of one core that the small scale takes.
    """

    title: str
    claim: str
    find: Callable[[Setting], Generator[Progress, None, Finding]]
    needs_data: bool = False
    hours: float = 0.0


def interval_of_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % interval (Student's t) over seeds; the interval of one value has no ends (NaN)."""
    from scipy.stats import t

    found: Any = np.asarray(values, dtype=float)
    if len(found) < 2:
        return float(found.mean()), float("nan"), float("nan")
    half = t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return float(found.mean()), float(found.mean() - half), float(found.mean() + half)


def judge_sign(low: float, high: float) -> Verdict:
    """Say whether something is positive, by its interval."""
    return "held" if low > 0 else "did not hold" if high < 0 else "could not be told"

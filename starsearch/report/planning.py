"""Which proxy is the cheapest that ranks well enough, and what a study would cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from starsearch.report.agreement import Agreement

if TYPE_CHECKING:
    from starsearch.recipe import Fidelity

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOption:
    """A proxy that the pilot's candidates were judged by.

    Attributes:
        fidelity: of it.
        seconds: that a candidate takes, on average.
        agreement: with the top fidelity.
        is_own: whether it is the study's own first fidelity.
    """

    fidelity: Fidelity
    seconds: float
    agreement: Agreement
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """What a fidelity of a study costs.

    Attributes:
        name: of the fidelity.
        candidates: judged at it, anchors included.
        trainings: whole ones that these come to: with successive halving fewer.
        seconds: that a candidate takes.
        is_measured: by the pilot; else predicted from images × pixels.
        gpus: of one evaluation; 0 on processors.
    """

    name: str
    candidates: int
    trainings: float
    seconds: float
    is_measured: bool
    gpus: float = 0.0

    @property
    def hours(self) -> float:
        """Of one worker, all candidates together."""
        return self.trainings * self.seconds / 3600


def choose_proxy(options: Sequence[ProxyOption], tau: float) -> ProxyOption | None:
    """The cheapest whose overall τ with the top fidelity is at least `tau`; None where none is."""
    good = [one for one in options if one.agreement.overall.is_known and one.agreement.overall.value >= tau]
    return min(good, key=lambda one: one.seconds, default=None)


def count_work(*, epochs: int, images: int, resolution: int) -> float:
    """Pixels that a training sees: what its time is proportional to, but for a fixed part."""
    return float(epochs) * images * resolution**2


def predict_seconds(work: Sequence[float], seconds: Sequence[float], wanted: float) -> float:
    """The time of a training of `wanted` work, from others: a fixed part and one by work, neither negative.

    Fitted to the relative error: a short training's time counts as much as a long one's.

    Args:
        work: (n,), n ≥ 1, of `count_work`.
        seconds: (n,), measured.
        wanted: work of the training in question.
    """
    from scipy.optimize import nnls

    known, taken = np.asarray(work, dtype=float), np.asarray(seconds, dtype=float)
    scale = known.max()
    terms = np.column_stack([np.ones_like(known), known / scale]) / taken[:, None]
    if len(known) == 1:  # one training does not tell its fixed part: by work alone
        return float(taken[0] * max(wanted / known[0], 1e-9))
    (fixed, slope), _ = nnls(terms, np.ones_like(known))
    return float(fixed + slope * wanted / scale)

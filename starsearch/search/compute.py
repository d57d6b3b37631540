"""`Compute`: where a study's trainings may stop, and what they take from one such point to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from starsearch.families.family import count_macs
from starsearch.pareto import FloatArray
from starsearch.resolution import area
from starsearch.search.evidence import task_of
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

_FEWEST_TO_LEARN_FROM = 4  # trials, before which seconds are taken to be in proportion to the work
_UNIT = 1e8  # multiply-adds


class Compute:
    """Predicts what parts of trainings take, by the seconds of a study's trials; before those by the work alone.

    A share is of the network's own whole training. Gains are of the losses' logarithms, so that half of a small latency
    counts like half of a large one; by seconds small networks, which are quick to train, would be all that is tried.

    Attributes:
        tasks: what a result at each rung is an observation of.
    """

    def __init__(self, spec: StudySpec) -> None:
        rungs = spec.halving.rungs if spec.halving else ()
        self.tasks = [task_of(spec, epochs=one.epochs) for one in rungs]
        self._space = spec.space
        self._epochs = [*(one.epochs for one in rungs), spec.num_epochs]
        self._may_skip = all(one.samples is None and one.resolution is None for one in rungs)
        images, whole = spec.fidelity.samples, spec.fidelity.resolution
        shares = [min((one.samples or images or 1) / (images or one.samples or 1), 1.0) for one in rungs]
        shares = [share * area(one.resolution or whole) / area(whole) for share, one in zip(shares, rungs, strict=True)]
        # What a training has done by each of the points, in epochs of the last part.
        work = np.cumsum([0.0, *np.diff(self._epochs, prepend=0) * np.array([*shares, 1.0])])
        self._work: list[float] = work.tolist()

    def shares(self, pool: Sequence[Trial], history: Sequence[Trial]) -> FloatArray:
        """Return (n, 2): the shares that each trial takes to where it may stop first, and from there to its end.

        Args:
            pool: new candidates, and trials that go on to `rung`.
            history: trials that have ended.
        """
        from scipy.optimize import nnls

        if not self.tasks:
            return np.tile([1.0, 0.0], (len(pool), 1))
        factors = np.array([0.0, 0.0, 1.0])
        ended = {one.number: one for one in history if one.seconds > 0}
        if len(ended) >= _FEWEST_TO_LEARN_FROM:
            rows = [self._inputs(one, *self._way(one, ended)) for one in ended.values()]
            # By relative error: a small network's seconds are as well known as a large one's.
            seconds = np.array([one.seconds for one in ended.values()])
            fitted = nnls(np.array(rows) / seconds[:, None], np.ones(len(rows)))[0]
            factors = fitted if fitted[1:].any() else factors  # none of the seconds are of the training
        last = len(self.tasks)
        now = [self._inputs(one, one.rung or 0, (one.rung or 0) + 1) for one in pool]
        later = [self._inputs(one, (one.rung or 0) + 1, last + 1) for one in pool]
        whole = np.array([self._inputs(one, 0, last + 1) for one in pool]) @ factors
        shares: FloatArray = np.stack([now @ factors, later @ factors], axis=1) / np.maximum(whole, 1e-9)[:, None]
        return shares

    def work(self, begins: int, stops: int) -> float:
        """Return what a training does between two points (0, the rungs, the end), in epochs of its last part."""
        return self._work[stops] - self._work[begins]

    def choose_end(self, trial: Trial, *, goes_on: bool) -> tuple[Trial, str]:
        """Return a trial with the rung at which it stops, and in words where that is.

        Args:
            goes_on: whether it does in any case, whatever the next rung shows: it trains to the end, if no rung on the
                way trains otherwise.
        """
        begins, stops = trial.rung or 0, (trial.rung or 0) + 1
        if goes_on and self._may_skip:
            stops = len(self._epochs)
        way = f"goes on from epoch {self._epochs[begins - 1]}" if begins else "trains"
        return replace(trial, rung=stops - 1), f"{way} to epoch {self._epochs[stops - 1]} of {self._epochs[-1]}"

    def _way(self, trial: Trial, ended: dict[int, Trial]) -> tuple[int, int]:
        """Return between which of the points a trial has trained."""
        before = None if trial.continues is None else ended.get(trial.continues)
        begins = 0 if before is None or before.rung is None else before.rung + 1
        return begins, len(self._epochs) if trial.rung is None else trial.rung + 1

    def _inputs(self, trial: Trial, begins: int, stops: int) -> FloatArray:
        """Return what a part of a training takes: its start with what is measured then, its images, their layers."""
        work = self.work(begins, stops)
        pixels = trial.candidate.resolution or self._space.resolution
        macs = count_macs(trial.candidate.architecture, resolution=pixels)
        return np.array([float(begins == 0), work, work * macs / _UNIT])

"""`TimeLimit`: which evaluations have run for too long, while their driver was there to hear them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Between two events a driver writes to the record; longer means that it waited there, for a locked database.
_AWAY_AFTER_S = 5.0


class TimeLimit:
    """Of every evaluation of an executor; the time in which nobody listens to them does not count.

    What they say waits until the driver is back, and a worker with much to say waits too.

    Args:
        seconds: that an evaluation may take; None for any.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._left_at = clock()
        self._away_s = 0.0
        self._began: dict[int, float] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """For as long as the driver waits for an event; it was away since the last time."""
        away_s = self._clock() - self._left_at
        if away_s > _AWAY_AFTER_S:
            self._away_s += away_s
        try:
            yield
        finally:
            self._left_at = self._clock()

    @property
    def now(self) -> float:
        """Seconds of a clock that stands still while the driver is away."""
        return self._clock() - self._away_s

    def begin(self, number: int) -> None:
        """Trial `number` is heard; the first time its evaluation begins."""
        self._began.setdefault(number, self.now)

    def forget(self, number: int) -> None:
        """The evaluation of trial `number` has ended, or another part of it begins."""
        self._began.pop(number, None)

    def first_overdue(self) -> int | None:
        """Of the trials whose time is up, the one that began first; None where there is none."""
        if self.seconds is None or not self._began:
            return None
        number = min(self._began, key=self._began.__getitem__)
        return number if self.now - self._began[number] > self.seconds else None

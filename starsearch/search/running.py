"""`Running`: a trial under way, as its driver remembers it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from starsearch.candidate import Candidate
from starsearch.measurement import Reading
from starsearch.search.events import TrialEnded
from starsearch.search.ladder import Waiting
from starsearch.search.outcome import Outcome
from starsearch.search.promoting import Promoted
from starsearch.search.proposer import Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A trial whose evaluation runs.

    Attributes:
        proposal: what is evaluated.
        continues: the stopped training it goes on with.
        rung: at which it will stop; None for the end of its training.
        curve: what the training has reached, by epoch.
        promoted: what is known of it from the fidelity below.
        started: by the monotonic clock.
    """

    proposal: Proposal
    continues: Waiting | None
    rung: int | None
    curve: dict[int, float]
    promoted: Promoted | None
    started: float

    @property
    def candidate(self) -> Candidate:
        """What is evaluated."""
        return self.proposal.candidate

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.started

    def ended(
        self, number: int, measurements: Sequence[Reading], outcome: Outcome, *, epochs: int | None = None
    ) -> TrialEnded:
        """That it was evaluated: to the end of its training, or stopped at a rung after `epochs`."""
        return TrialEnded(
            number=number,
            candidate=self.candidate,
            state="complete" if epochs is None else "pruned",
            measurements=tuple(measurements),
            feasible=outcome.feasible,
            seconds=self.seconds,
            epochs=epochs,
        )

    def failed(self, number: int, reason: str) -> TrialEnded:
        """That it has no result."""
        return TrialEnded(
            number=number,
            candidate=self.candidate,
            state="fail",
            feasible=False,
            reason=reason,
            seconds=self.seconds,
        )

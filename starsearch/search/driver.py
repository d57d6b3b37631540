"""`Driver`: ask → evaluate → tell, until the study has its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from starsearch.errors import EvaluationError, StudyLeasedError
from starsearch.measurement import Reading
from starsearch.progress import Progress
from starsearch.records import (
    Lease,
    StudyRecord,
    measured_afterwards,
)
from starsearch.search.agenda import Planned, plan
from starsearch.search.checkpoints import CheckpointShelf
from starsearch.search.events import Event, StudyEnded, StudyStarted, TrialProgressed, TrialStarted
from starsearch.search.executor import Executor, Job, JobEvent, JobFailed, JobLost, JobProgressed, JobReturned
from starsearch.search.failures import Failures, write_log
from starsearch.search.front_measuring import Meter
from starsearch.search.ladder import Ladder, Waiting
from starsearch.search.outcome import Outcome, judge
from starsearch.search.promoting import Below, Promoted
from starsearch.search.proposer import Proposal, Proposer
from starsearch.search.running import Running
from starsearch.search.tally import Tally, recall
from starsearch.search.weights import WeightsShelf
from starsearch.study.spec import StudySpec

Why = Literal["complete", "interrupted", "time budget", "space exhausted"]
Watch = Callable[[Event], None]

_NO_METERS: Mapping[str, Meter] = MappingProxyType({})
_NO_CURVE: Mapping[int, float] = MappingProxyType({})


class Driver:
    """One run of a study, from the record as it is to the reason why it ends."""

    def __init__(
        self,
        spec: StudySpec,
        record: StudyRecord,
        lease: Lease,
        executor: Executor,
        watch: Watch,
        *,
        folder: Path | None,
        deadline: float | None,
        tries: int,
        below: Below | None,
    ) -> None:
        recorded = record.trials()
        self._record = record
        self._spec = spec
        self._lease = lease
        self._executor = executor
        self._watch = watch
        self._folder = folder
        self._deadline = deadline
        self._agenda = plan(spec, recorded, below)
        self._measured = measured_afterwards(record.attributes(), recorded)
        self._proposer = Proposer(spec, recorded, self._measured)
        self._ladder = Ladder(spec, recorded)
        self._weights = WeightsShelf(folder, spec.keep_weights, spec.objectives, spec.constraints)
        self._checkpoints = CheckpointShelf(folder)
        self._running: dict[int, Running] = {}
        self._tally = Tally(spec)
        self._failures = Failures(tries=tries)
        self._exhausted = False
        self._resumed = bool(recorded)
        self._earlier = tuple(recall(recorded, spec, self._measured))
        for trial in self._earlier:
            self._tally.judged(trial.candidate)
            if trial.state == "complete":
                self._weights.add(
                    trial.number, self._judge(trial.measurements), anchor=trial.candidate.anchor is not None
                )

    def run(self) -> Why:
        """Evaluate candidates until there is a reason to stop."""
        self._weights.clear()
        self._checkpoints.clear(keep=[*self._ladder.waiting_keys(), *(one.candidate.key for one in self._agenda)])
        finished, wanted = self._tally.finished, self._tally.wanted
        self._watch(StudyStarted(finished=finished, wanted=wanted, resumed=self._resumed, earlier=self._earlier))
        while True:
            why = self._fill()
            if not self._running:
                assert why is not None
                return why
            self._follow()

    def give_up(self, reason: str) -> None:
        """End what still runs as interrupted.

        Raises:
            StudyError: the storage fails, or the lease is lost: the trials are another driver's now.
        """
        self._lease.check()
        # The record is asked: an interrupt may have come between a transaction and its bookkeeping here.
        for number in self._record.fail_running(reason):
            if number in self._running:
                running = self._running.pop(number)
                self._watch(running.failed(number, reason))
        self._weights.clear()

    def end(self, why: Why) -> StudyEnded:
        """Say that and why the study has ended."""
        ended = StudyEnded(finished=self._tally.finished, wanted=self._tally.wanted, why=why)
        self._watch(ended)
        return ended

    def _fill(self) -> Why | None:
        """Begin trials until the executor is full; else the reason to begin no more."""
        while len(self._running) < self._executor.capacity:
            planned, climber = self._next_planned(), self._ladder.next()
            if planned is None and climber is None and not self._wants_more:
                return "complete"
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return "time budget"
            if planned is not None:
                self._begin_planned(planned)
            elif climber is not None:
                self._ladder.promote(climber)
                proposal = Proposal(candidate=climber.candidate, params=climber.params)
                self._begin(proposal, continues=climber, curve=climber.curve)
            elif self._spec.promotion is not None:
                return "complete"  # fewer than wanted could be promoted, or have not failed
            elif not self._exhausted and (proposal_ := self._proposer.propose()) is not None:
                self._begin(proposal_)
            else:
                self._exhausted = True  # what is known is never unknown again
                return "space exhausted"
        return None

    @property
    def _wants_more(self) -> bool:
        """Whether the candidates that are judged and being judged are too few."""
        return self._tally.searched(running=[running.candidate for running in self._running.values()]) < (
            self._spec.trials
        )

    def _next_planned(self) -> Planned | None:
        """The first on the agenda; where all searched trials are there, the first that is not one more of them."""
        return next(
            (p for p in self._agenda if p.candidate.anchor is not None or p.continues is not None or self._wants_more),
            None,
        )

    def _begin_planned(self, planned: Planned) -> None:
        self._agenda.remove(planned)
        waiting = None if planned.continues is None else self._ladder.waiting(planned.continues)
        # What goes on is no news to the sampler: it has been told of the rung below.
        proposal = (
            self._proposer.adopt(planned.candidate, planned.params)
            if waiting is None
            else Proposal(candidate=planned.candidate, params=planned.params)
        )
        self._begin(
            proposal, continues=waiting, curve=planned.curve, retry_of=planned.retry_of, promoted=planned.promoted
        )

    def _begin(
        self,
        proposal: Proposal,
        *,
        continues: Waiting | None = None,
        curve: Mapping[int, float] = _NO_CURVE,
        retry_of: int | None = None,
        promoted: Promoted | None = None,
    ) -> None:
        self._lease.check()
        candidate = proposal.candidate
        before = None if continues is None else continues.number
        number = self._record.start(
            candidate,
            params=proposal.params,
            retry_of=retry_of,
            continues=before,
            curve=curve,
            promoted_from=None if promoted is None else promoted.number,
            elsewhere=self._executor.is_elsewhere,
        )
        is_anchor = candidate.anchor is not None
        self._running[number] = Running(
            proposal=proposal,
            continues=continues,
            rung=self._ladder.rung_above(continues, anchor=is_anchor),
            curve=dict(curve),
            promoted=promoted,
            started=time.monotonic(),
        )
        self._watch(TrialStarted(number=number, candidate=candidate, continues=before))
        stretch = self._ladder.stretch(continues, anchor=is_anchor, checkpoint=self._checkpoints.place(candidate))
        if promoted is not None:
            stretch = replace(stretch, known=(*stretch.known, *promoted.known), start=promoted.weights)
        weights = self._weights.place(number) if stretch.until is None else None
        self._executor.submit(
            Job(number=number, candidate=candidate, seed=self._spec.seed, weights=weights, stretch=stretch)
        )

    def _follow(self) -> None:
        """Wait for what happens next, and act on it."""
        event = self._executor.next_event()
        if event is None:
            return
        try:
            self._act_on(event)
        except StudyLeasedError:
            self._lease.renew()
            self._lease.check()  # raises where another driver has the study; else the trial was ended by hand
            if (running := self._running.pop(event.number, None)) is not None:
                self._watch(running.failed(event.number, "Another program has ended the trial."))

    def _act_on(self, event: JobEvent) -> None:
        match event:
            case JobProgressed(number=number, progress=progress):
                self._report(number, progress)
            case JobFailed(number=number, reason=reason, log=log):
                self._fail(number, reason, log)
            case JobLost(number=number, reason=reason, log=log):
                self._lose(number, reason, log)
            case JobReturned(number=number, measurements=measurements):
                try:
                    outcome = self._judge(measurements)
                except EvaluationError as error:
                    self._fail(number, str(error), log="")
                else:
                    self._judged(number, measurements, outcome)

    def _report(self, number: int, progress: Progress) -> None:
        self._watch(TrialProgressed(number=number, progress=progress))
        running = self._running[number]
        if progress.epoch is not None and progress.epoch > max(running.curve, default=0):
            self._failures.forgive(running.candidate)
        # Optuna keeps one intermediate value a step: the first objective that can be read so early.
        names = [objective.name for objective in self._spec.objectives if objective.name in progress.values]
        if progress.epoch is not None and names:
            self._lease.check()
            value = progress.values[names[0]]
            running.curve[progress.epoch] = value
            self._record.report(number, epoch=progress.epoch, value=value)

    def _judge(self, readings: Sequence[Reading]) -> Outcome:
        return judge(readings, self._spec.objectives, self._spec.constraints)

    def _judged(self, number: int, measurements: tuple[Reading, ...], outcome: Outcome) -> None:
        self._lease.check()
        running = self._running[number]
        self._failures.reset()
        if running.rung is None:
            self._complete(number, running, measurements, outcome)
        else:
            self._stop_at(running.rung, number, running, measurements, outcome)
        self._tally.judged(running.candidate)

    def _complete(self, number: int, running: Running, measurements: Sequence[Reading], outcome: Outcome) -> None:
        seconds = running.seconds
        # The trial says what its evaluation returned; what was measured of others corrects what is learned from it.
        readings = self._measured.corrected(measurements)
        learned = self._judge(readings)
        # Before the record: an interrupt between the two must not cost a complete trial its weights.
        self._weights.add(number, learned, anchor=running.candidate.anchor is not None)
        self._record.complete(
            number,
            values=outcome.values,
            measurements=measurements,
            constraints=outcome.constraints,
            seconds=seconds,
            weights=self._weights.written(number),
            sampler_attributes=self._proposer.tell(running.proposal, learned),
        )
        del self._running[number]
        self._weights.clear(running=self._running)
        self._checkpoints.drop(running.candidate)
        self._watch(running.ended(number, readings, learned))

    def _stop_at(
        self, rung: int, number: int, running: Running, measurements: tuple[Reading, ...], outcome: Outcome
    ) -> None:
        """The trial ends at a rung; its candidate waits there."""
        epochs = self._ladder.epochs(rung)
        readings = self._measured.corrected(measurements)
        self._record.prune(
            number,
            rung=rung,
            epochs=epochs,
            measurements=measurements,
            constraints=outcome.constraints,
            seconds=running.seconds,
            sampler_attributes=self._proposer.tell(running.proposal, self._judge(readings), rung=rung),
        )
        del self._running[number]
        self._ladder.reach(
            Waiting(
                number=number,
                rung=rung,
                candidate=running.candidate,
                params=running.proposal.params,
                outcome=outcome,
                readings=measurements,
                curve=running.curve,
            )
        )
        self._watch(running.ended(number, readings, self._judge(readings), epochs=epochs))

    def _lose(self, number: int, reason: str, log: str) -> None:
        """A worker has died: the candidate runs again, unless workers keep dying of it."""
        running = self._running[number]
        if not self._failures.may_retry(running.candidate):
            self._fail(number, f"{reason} That was the last of {self._failures.tries} tries.", log)
            return
        if (where := write_log(self._folder, number, log)) is not None:
            reason = f"{reason} (logs/{where.name})"
        self._lease.check()
        self._record.fail(number, reason=reason, seconds=running.seconds, interrupted=True)
        self._proposer.tell_failed(running.proposal)
        del self._running[number]
        self._weights.clear(running=self._running)
        again = Planned(
            candidate=running.candidate,
            params=running.proposal.params,
            retry_of=number,
            continues=None if running.continues is None else running.continues.number,
            curve=running.curve,
            promoted=running.promoted,
        )
        self._agenda.insert(0, again)
        self._watch(running.failed(number, reason))

    def _fail(self, number: int, reason: str, log: str) -> None:
        self._lease.check()
        running = self._running[number]
        where = write_log(self._folder, number, log)
        if where is not None:
            reason = f"{reason} (logs/{where.name})"
        self._proposer.tell_failed(running.proposal)
        self._record.fail(number, reason=reason, seconds=running.seconds)
        del self._running[number]
        self._weights.clear(running=self._running)
        self._checkpoints.drop(running.candidate)
        self._watch(running.failed(number, reason))
        self._failures.add(number, reason, where)

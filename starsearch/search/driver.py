"""The driver: ask → evaluate → tell, until the study has its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from starsearch.candidate import Candidate
from starsearch.errors import EvaluationError, StudyError
from starsearch.measurement import Progress, Reading
from starsearch.records import (
    DRIVER_DIED,
    Lease,
    StudyRecord,
    hold_lease,
    latest_readings,
    measured_afterwards,
    recorded_candidate,
)
from starsearch.search.agenda import Planned, plan
from starsearch.search.events import Event, StudyEnded, StudyStarted, TrialEnded, TrialProgressed, TrialStarted
from starsearch.search.executor import Executor, Job, JobFailed, JobProgressed, LocalExecutor
from starsearch.search.failures import write_log
from starsearch.search.front_measuring import Meter, measure_front
from starsearch.search.outcome import Outcome, judge
from starsearch.search.proposer import Proposal, Proposer
from starsearch.search.weights import WeightsShelf
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.evaluators.evaluator import Evaluator
    from starsearch.search.executor import MakeExecutor

Why = Literal["complete", "interrupted", "time budget", "space exhausted"]
Watch = Callable[[Event], None]

_NO_METERS: Mapping[str, Meter] = MappingProxyType({})
# So many failures one after the other are not the candidates' fault.
_MAX_FAILURES_IN_A_ROW = 20


def run_study(
    spec: StudySpec,
    *,
    record: StudyRecord,
    evaluator: Evaluator,
    make_executor: MakeExecutor = LocalExecutor,
    watch: Watch = lambda _event: None,
    folder: Path | None = None,
    time_budget_s: float | None = None,
    meters: Mapping[str, Meter] = _NO_METERS,
) -> StudyEnded:
    """Go on with the study of `record` until it has the trials that `spec` wants; returns why it ended.

    First run trials that were cut off, then anchors, then what the sampler suggests; no candidate is evaluated
    twice. A candidate whose evaluation raises is a failed trial. On Ctrl-C the running trials end as
    interrupted, and run again when the study goes on. At the end what was predicted of the front's members is
    measured, as far as `meters` can.

    Args:
        spec: of the study.
        record: of the same study.
        evaluator: judges candidates.
        make_executor: where evaluations run.
        watch: is told everything that happens, in the driver's thread.
        folder: the study's, for weights and the logs of failed trials; None writes neither.
        time_budget_s: seconds after which no trial is begun.
        meters: measure predicted quantities, by name.

    Raises:
        StudyLeasedError: another live driver works on the study.
        StudyError: the storage fails, or twenty candidates in a row have failed.
        SpecError: an anchor lies outside the space, or nothing satisfies its constraints.
    """
    deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
    with hold_lease(record) as lease:
        record.fail_running(DRIVER_DIED)
        executor = make_executor(evaluator)
        driver = _Driver(spec, record, lease, executor, watch, folder=folder, deadline=deadline)
        try:
            why = driver.run()
        except KeyboardInterrupt:
            executor.close()
            driver.give_up("interrupted")
            why = "interrupted"
        except BaseException:
            executor.close()
            with suppress(StudyError):  # the storage may be what has failed
                driver.give_up("The study stopped while it was evaluated.")
            raise
        executor.close()
        try:
            if why != "interrupted":
                measure_front(spec, record, lease, meters, watch)
        except KeyboardInterrupt:  # what has been measured is kept
            why = "interrupted"
        return driver.end(why)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A trial whose evaluation runs."""

    proposal: Proposal
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class _Driver:
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
    ) -> None:
        recorded = record.trials()
        self._measured = measured_afterwards(record.attributes())
        self._record = record
        self._spec = spec
        self._lease = lease
        self._executor = executor
        self._watch = watch
        self._folder = folder
        self._deadline = deadline
        self._agenda = plan(spec, recorded)
        self._proposer = Proposer(spec, recorded)
        self._weights = WeightsShelf(folder, spec.keep_weights, spec.objectives)
        self._running: dict[int, _Running] = {}
        self._searched = self._anchors = self._failures_in_a_row = 0
        self._resumed = bool(recorded)
        self._earlier: list[TrialEnded] = []
        for trial in recorded:
            if trial.state.name == "COMPLETE":
                self._remember(trial)

    def run(self) -> Why:
        """Evaluate candidates until there is a reason to stop."""
        self._weights.clear()
        earlier = tuple(self._earlier)
        self._watch(StudyStarted(finished=self._finished, wanted=self._wanted, resumed=self._resumed, earlier=earlier))
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
                self._watch_failure(number, running, reason)
        self._weights.clear()

    def end(self, why: Why) -> StudyEnded:
        """Say that and why the study has ended."""
        ended = StudyEnded(finished=self._finished, wanted=self._wanted, why=why)
        self._watch(ended)
        return ended

    def _remember(self, trial: FrozenTrial) -> None:
        """Take note of a complete trial of an earlier run, by measured values where there are such."""
        candidate = recorded_candidate(trial, self._spec.recipe)
        readings = latest_readings(trial.user_attrs, self._measured)
        outcome = judge(readings, self._spec.objectives, self._spec.constraints)
        self._weights.add(trial.number, outcome, anchor=candidate.anchor is not None)
        self._count(candidate)
        ended = TrialEnded(
            number=trial.number,
            candidate=candidate,
            state="complete",
            measurements=readings,
            feasible=outcome.feasible,
            seconds=trial.user_attrs.get("seconds", 0.0),
        )
        self._earlier.append(ended)

    def _fill(self) -> Why | None:
        """Begin trials until the executor is full; else the reason to begin no more."""
        while len(self._running) < self._executor.capacity:
            planned = self._next_planned()
            if planned is None and self._searched + self._searching >= self._spec.trials:
                return "complete"
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return "time budget"
            if planned is not None:
                self._agenda.remove(planned)
                self._begin(self._proposer.adopt(planned.candidate, planned.params), retry_of=planned.retry_of)
            elif (proposal := self._proposer.propose()) is not None:
                self._begin(proposal)
            else:
                return "space exhausted"
        return None

    def _next_planned(self) -> Planned | None:
        """The first on the agenda; where all searched trials are there, the first anchor on it."""
        enough = self._searched + self._searching >= self._spec.trials
        return next((p for p in self._agenda if p.candidate.anchor is not None or not enough), None)

    def _begin(self, proposal: Proposal, retry_of: int | None = None) -> None:
        self._lease.check()
        candidate = proposal.candidate
        number = self._record.start(candidate, params=proposal.params, retry_of=retry_of)
        self._running[number] = _Running(proposal=proposal, started=time.monotonic())
        self._watch(TrialStarted(number=number, candidate=candidate))
        weights = self._weights.place(number)
        self._executor.submit(Job(number=number, candidate=candidate, seed=self._spec.seed, weights=weights))

    def _follow(self) -> None:
        """Wait for what happens next, and act on it."""
        event = self._executor.next_event()
        if isinstance(event, JobProgressed):
            self._report(event.number, event.progress)
        elif isinstance(event, JobFailed):
            self._fail(event.number, event.reason, event.log)
        else:
            try:
                outcome = judge(event.measurements, self._spec.objectives, self._spec.constraints)
            except EvaluationError as error:
                self._fail(event.number, str(error), log="")
            else:
                self._complete(event.number, event.measurements, outcome)

    def _report(self, number: int, progress: Progress) -> None:
        self._watch(TrialProgressed(number=number, progress=progress))
        # Optuna keeps one intermediate value a step: the first objective that can be read so early.
        names = [objective.name for objective in self._spec.objectives if objective.name in progress.values]
        if progress.epoch is not None and names:
            self._lease.check()
            self._record.report(number, epoch=progress.epoch, value=progress.values[names[0]])

    def _complete(self, number: int, measurements: Sequence[Reading], outcome: Outcome) -> None:
        self._lease.check()
        running = self._running[number]
        candidate, seconds = running.proposal.candidate, running.seconds
        # Before the record: an interrupt between the two must not cost a complete trial its weights.
        self._weights.add(number, outcome, anchor=candidate.anchor is not None)
        self._record.complete(
            number,
            values=outcome.values,
            measurements=measurements,
            constraints=outcome.constraints,
            seconds=seconds,
            weights=self._weights.written(number),
            sampler_attributes=self._proposer.tell(running.proposal, outcome),
        )
        del self._running[number]
        self._weights.clear()
        self._failures_in_a_row = 0
        self._count(candidate)
        self._watch(
            TrialEnded(
                number=number,
                candidate=candidate,
                state="complete",
                measurements=tuple(measurements),
                feasible=outcome.feasible,
                seconds=seconds,
            )
        )

    def _fail(self, number: int, reason: str, log: str) -> None:
        self._lease.check()
        running = self._running[number]
        self._proposer.tell_failed(running.proposal)
        self._record.fail(number, reason=reason, seconds=running.seconds)
        del self._running[number]
        self._weights.clear()
        where = write_log(self._folder, number, log)
        self._watch_failure(number, running, reason)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
            raise StudyError(
                f"{_MAX_FAILURES_IN_A_ROW} candidates in a row have failed, the last, trial {number}, with: {reason}\n"
                + (f"Its traceback is in {where}. " if where else "")
                + "Finished trials are kept: find the cause and run the same command again."
            )

    def _watch_failure(self, number: int, running: _Running, reason: str) -> None:
        candidate = running.proposal.candidate
        self._watch(
            TrialEnded(
                number=number,
                candidate=candidate,
                state="fail",
                feasible=False,
                reason=reason,
                seconds=running.seconds,
            )
        )

    def _count(self, candidate: Candidate) -> None:
        if candidate.anchor is None:
            self._searched += 1
        else:
            self._anchors += 1

    @property
    def _searching(self) -> int:
        """How many searched candidates are being evaluated."""
        return sum(running.proposal.candidate.anchor is None for running in self._running.values())

    @property
    def _finished(self) -> int:
        return self._searched + self._anchors

    @property
    def _wanted(self) -> int:
        return self._spec.trials + len(self._spec.space.anchors)

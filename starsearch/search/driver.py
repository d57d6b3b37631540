"""`run_study`: ask, evaluate, record, until the study has its trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from starsearch.errors import EvaluationError, StudyError, TrainingDivergedError
from starsearch.evaluators.evaluator import Untrained
from starsearch.measurement import Reading
from starsearch.objective import is_accuracy
from starsearch.progress import Progress
from starsearch.records.record import DRIVER_DIED, StudyRecord, hold_lease
from starsearch.search.events import (
    Event,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialProgressed,
    TrialStarted,
    Why,
)
from starsearch.search.executor import Executor, Failure, Job
from starsearch.search.files import StudyFiles
from starsearch.search.front import Meter, measure_front
from starsearch.search.halving import Rungs
from starsearch.search.planned import STOPPED, Losses, anchor_trials, unfinished_trials
from starsearch.search.promotion import LowerFidelity, promoted_trials
from starsearch.search.proposer import Proposer
from starsearch.signals import exit_code
from starsearch.study.spec import StudySpec
from starsearch.trial import INTERRUPTED, Trial, require

if TYPE_CHECKING:
    from starsearch.accuracy.evidence import Observation
    from starsearch.search.auto import AutoProposer

Watch = Callable[[Event], None]

_MAX_FAILURES_IN_A_ROW = 20  # so many one after the other are not the candidates' fault
_MAX_UNTRAINED_IN_A_ROW = 50  # which break a constraint before their training: the space may have no others
_OF_RECIPES = (EvaluationError.__name__, TrainingDivergedError.__name__)


def run_study(
    spec: StudySpec,
    record: StudyRecord,
    executor: Executor,
    watch: Watch = lambda _event: None,
    *,
    folder: Path | None = None,
    deadline: float = float("inf"),
    tries: int = 3,
    meters: Mapping[str, Meter] = MappingProxyType({}),
    lower: LowerFidelity | None = None,
    planned: Sequence[Trial] | None = None,
    evidence: Sequence[Observation] = (),
    clock: Callable[[], float] = time.monotonic,
) -> StudyEnded:
    """Run the study of `record` until it has the trials that `spec` wants, or resume it; return why it ended.

    Trials that were cut off run first, then anchors, then candidates that may leave a rung of successive halving, then
    those that come from the lower fidelity or the sampler; no candidate is evaluated twice. The sampler auto chooses
    between candidates at a rung and new ones itself, and has halving only settle who else goes on. A candidate whose
    evaluation raises is a failed trial; one whose worker or driver dies runs again. On Ctrl-C the running trials end as
    interrupted, and run again when the study is resumed. At the end, what was predicted of the front is measured.

    Args:
        executor: is closed at the end.
        watch: is called with everything that happens, in the driver's thread.
        folder: the study's folder, for weights, checkpoints and logs; without one none are kept.
        deadline: the clock's time in seconds after which no trial is begun.
        tries: how often a candidate may be lost without having trained further than before.
        meters: what measures predicted quantities, by name.
        lower: what the fidelity below has found; candidates come from it, not from a sampler.
        planned: candidates to evaluate instead of those that a sampler would choose.
        evidence: what other studies say of accuracy, for the sampler auto.
        clock: returns the time in seconds; another than the monotonic one where evaluations are simulated.

    Raises:
        StudyLeasedError: another live driver works on the study.
        StudyError: the storage fails, or twenty candidates in a row have failed.
        SpecError: an anchor lies outside the space, or nothing satisfies its constraints.
    """
    with hold_lease(record):
        losses = Losses(record.trials())
        record.fail_running(DRIVER_DIED, lambda trial: losses.settle(trial, tries))
        if lower is not None:
            lower.hand_over_measured(record)
            spec, planned = promoted_trials(spec, lower, record.trials(), tries)
        driver = _Driver(
            spec,
            record,
            executor,
            watch,
            folder=folder,
            deadline=deadline,
            tries=tries,
            lower=lower,
            planned=planned,
            evidence=evidence,
            clock=clock,
        )
        try:
            why = driver.run()
        except KeyboardInterrupt:
            executor.close()
            driver.abandon(INTERRUPTED)
            why = "interrupted"
        except BaseException:
            with suppress(StudyError):  # the storage may be what has failed
                driver.abandon(STOPPED)
            raise
        finally:
            executor.close()
        try:
            if why != "interrupted":
                measure_front(spec, record, meters, watch)
        except KeyboardInterrupt:  # what has been measured is kept
            why = "interrupted"
        return driver.end(why)


class _Driver:
    """One run of a study, from the record as it is to the reason why it ends."""

    def __init__(
        self,
        spec: StudySpec,
        record: StudyRecord,
        executor: Executor,
        watch: Watch,
        *,
        folder: Path | None,
        deadline: float,
        tries: int,
        lower: LowerFidelity | None,
        planned: Sequence[Trial] | None,
        evidence: Sequence[Observation],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._spec, self._record, self._executor, self._watch = spec, record, executor, watch
        self._deadline, self._tries, self._lower = deadline, tries, lower
        ended = record.trials()
        self._measured = record.measured()
        known = [self._measured.latest(trial) for trial in ended]
        self._rungs = Rungs(spec, ended)
        self._losses = Losses(ended)
        self._files = StudyFiles(folder, spec)
        self._proposer = None if planned is not None else self._make_proposer(known, evidence)
        self._running: dict[int, Trial] = {}
        self._began: dict[int, float] = {}
        self._searched: set[str] = set()  # keys of candidates that were judged, however many trials that took
        self._anchors: set[str] = set()
        self._failures: list[str] = []  # the reasons of those in a row
        self._untrained_in_a_row = 0
        for trial in known:
            self._count(trial)
            self._files.add(trial)
        self._todo = unfinished_trials(ended, tries)
        settled = {trial.key for trial in ended if trial.state == "complete"} | {trial.key for trial in self._todo}
        begun = {trial.key for trial in ended}
        self._todo += [trial for trial in anchor_trials(spec) if trial.key not in settled]
        self._todo += [trial for trial in planned or () if trial.key not in begun]
        earlier = tuple(trial for trial in known if trial.has_result)
        finished, wanted = self._finished, self._wanted
        self._started = StudyStarted(finished=finished, wanted=wanted, resumed=bool(ended), earlier=earlier)

    def _make_proposer(self, known: Sequence[Trial], evidence: Sequence[Observation]) -> Proposer | AutoProposer:
        known = [one for one in known if not one.is_baseline]
        if self._spec.sampler != "auto":
            return Proposer(self._spec, known)
        from starsearch.search.auto import AutoProposer

        num_classes = len(self._record.attribute("classes") or ()) or 1000
        return AutoProposer(self._spec, known, evidence=evidence, num_classes=num_classes, rungs=self._rungs)

    def run(self) -> Why:
        """Begin what fits and act on what happens, until there is nothing left to do."""
        self._files.clear_weights()
        self._files.clear_checkpoints(keep=[*self._rungs.keys(), *(trial.key for trial in self._todo)])
        self._watch(self._started)
        before = exit_code()
        while True:
            why: Why | None = None
            while why is None and len(self._running) < self._executor.capacity:
                found = self._next()
                if isinstance(found, Trial):
                    self._begin(found)
                else:
                    why = found
            if not self._running:
                assert why is not None
                return why
            said = self._executor.next()
            if said is not None:
                self._act(*said)
            if not before and exit_code():  # the interrupt came within a destructor, where Python ignores it
                raise KeyboardInterrupt

    def abandon(self, reason: str) -> None:
        """End what still runs; it runs again when the study is resumed."""
        # The record is asked: an interrupt may have come between a transaction and its bookkeeping here.
        for trial in self._record.fail_running(reason):
            if self._running.pop(trial.number, None) is not None:
                self._watch(TrialEnded(trial=trial))
        self._files.clear_weights()

    def end(self, why: Why) -> StudyEnded:
        """Say that and why the study has ended."""
        ended = StudyEnded(finished=self._finished, wanted=self._wanted, why=why)
        self._watch(ended)
        return ended

    def _next(self) -> Trial | Why:
        """Return the next trial to begin, or the reason to begin no more."""
        trial, expected = self._next_planned(), self._proposer.expected if self._proposer else None
        if trial is None and not (expected and self._wants_more):  # else the proposer chooses between both
            trial = self._rungs.next(expected)
        if trial is None and not self._wants_more:
            return "complete"
        if self._clock() >= self._deadline:
            return "time budget"
        if trial is None and self._proposer is None:
            return "complete"  # fewer than wanted could be promoted, or have not failed
        if trial is None and self._untrained_in_a_row >= _MAX_UNTRAINED_IN_A_ROW:
            return "nothing feasible"
        if trial is None and self._proposer is not None:
            trial = self._proposer.propose()
        return trial or self._rungs.next(expected) or "space exhausted"

    def _next_planned(self) -> Trial | None:
        """Return the first on the list; where all searched trials are there, the first that is not one more."""
        return next((one for one in self._todo if one.is_anchor or one.continues is not None or self._wants_more), None)

    def _begin(self, trial: Trial) -> None:
        if trial in self._todo:
            self._todo.remove(trial)
        trial = self._rungs.begin(trial)
        if self._lower is not None:
            trial = self._lower.hand_over(trial)
        trial = self._record.start(trial)
        self._running[trial.number], self._began[trial.number] = trial, self._clock()
        why = "" if self._proposer is None or trial.is_baseline else self._proposer.adopt(trial)
        self._watch(TrialStarted(trial=trial, why=why))
        job = Job(
            number=trial.number,
            candidate=trial.candidate,
            seed=self._spec.seed,
            weights=self._files.weights(trial.number) if trial.rung is None else None,
            part=self._rungs.part(trial, self._files.checkpoint(trial)),
        )
        self._executor.submit(job)

    def _act(self, number: int, news: Progress | tuple[Reading, ...] | Failure) -> None:
        trial = replace(self._running[number], seconds=self._clock() - self._began[number])
        match news:
            case Progress():
                self._report(trial, news)
            case Failure():
                self._fail(trial, news)
            case readings:
                judged = replace(trial, readings=readings, state="complete" if trial.rung is None else "pruned")
                broken = [
                    one for one in self._spec.constraints if any(by > 0 for by in judged.violations([one]).values())
                ]
                if broken and isinstance(readings, Untrained):
                    why = " ".join(f"{one.name} is not {one}." for one in broken)
                    self._untrained_in_a_row += 1
                    self._finish(replace(judged, state="fail", untrained=True, reason=f"Not trained: {why}"))
                    return
                try:
                    require(judged, self._spec.quantities)
                except EvaluationError as error:
                    self._fail(trial, Failure(reason=str(error)))
                else:
                    self._failures.clear()
                    self._untrained_in_a_row = 0
                    self._finish(judged)

    def _report(self, trial: Trial, progress: Progress) -> None:
        # Optuna keeps one intermediate value a step: the first accuracy; of a study without one, the first objective
        # that can be read so early.
        names = [one.name for one in self._spec.objectives]
        accuracies = [one for one in names if is_accuracy(one)]
        name = next((one for one in accuracies[:1] or names if one in progress.values), None)
        if progress.epoch is not None and name is not None:
            trial = replace(trial, curve={**trial.curve, progress.epoch: progress.values[name]})
            self._running[trial.number] = trial
            self._record.report(trial, epoch=progress.epoch, value=progress.values[name])
        self._watch(TrialProgressed(trial=trial, progress=progress))

    def _fail(self, trial: Trial, failure: Failure) -> None:
        log = self._files.log(trial, failure.log)
        trial = replace(trial, state="fail", lost=failure.lost, reason=failure.reason)
        if failure.lost:
            trial = self._losses.settle(trial, self._tries)
        reason = trial.reason
        if log is not None:
            trial = replace(trial, reason=f"{reason} (logs/{log.name})")
        self._finish(trial)
        if trial.lost:
            self._todo.insert(0, trial.again())
            return
        self._failures.append(str(reason))
        if len(self._failures) >= _MAX_FAILURES_IN_A_ROW:
            raise StudyError(_too_many_failures(trial, set(self._failures), log))

    def _finish(self, trial: Trial) -> None:
        """Record the end of a trial, and tell sampler, rungs, files and watcher."""
        # The record says what the evaluation returned; what was measured of others corrects what is learned from it.
        latest = self._measured.latest(trial)
        # Before the record: an interrupt between the two must not cost a complete trial its weights.
        weights = self._files.add(latest).weights
        noted = self._proposer.tell(latest) if self._proposer is not None and not trial.is_baseline else {}
        trial = self._record.finish(replace(trial, weights=weights, noted=noted))
        del self._running[trial.number], self._began[trial.number]
        self._count(trial)
        self._rungs.reach(trial)
        self._files.end(trial, running=self._running)
        self._watch(TrialEnded(trial=replace(trial, readings=latest.readings)))

    def _count(self, trial: Trial) -> None:
        if trial.has_result:
            (self._anchors if trial.is_anchor else self._searched).add(trial.key)

    @property
    def _wants_more(self) -> bool:
        """Whether the searched candidates that were judged or are running are too few."""
        running = {trial.key for trial in self._running.values() if not trial.is_anchor}
        return len(self._searched | running) < self._spec.trials

    @property
    def _finished(self) -> int:
        return len(self._searched) + len(self._anchors)

    @property
    def _wanted(self) -> int:
        return self._spec.trials + self._spec.num_anchor_trials


def _too_many_failures(trial: Trial, reasons: set[str], log: Path | None) -> str:
    # What all are refused for is in what they share; a full disk or a lost file is not in the study's file.
    is_shared = len(reasons) == 1 and str(trial.reason).startswith(_OF_RECIPES)
    return (
        f"{_MAX_FAILURES_IN_A_ROW} candidates in a row have failed, the last, trial {trial.number}, with: "
        f"{trial.reason}\n"
        + (f"Its traceback is in {log}. " if log else "")
        + (
            "All have failed for this one reason: correct the recipe or the fidelity in the study's file. A study "
            "without a finished trial takes the change; another one needs a new --name."
            if is_shared
            else "Finished trials are kept: find the cause and run the same command again."
        )
    )

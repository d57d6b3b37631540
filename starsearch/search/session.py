"""`run_study`: a driver's session with a study, from taking the lease to measuring the front."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from starsearch.errors import StudyError
from starsearch.records import DRIVER_DIED, StudyRecord, hold_lease, keep_measured, measured_afterwards
from starsearch.search.driver import Driver, Watch
from starsearch.search.events import StudyEnded
from starsearch.search.executor import LocalExecutor
from starsearch.search.front_measuring import Meter, measure_front
from starsearch.search.promoting import Below, size_for
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from starsearch.evaluators.evaluator import Evaluator
    from starsearch.search.executor import MakeExecutor

_NO_METERS: Mapping[str, Meter] = MappingProxyType({})


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
    tries: int = 3,
    below: Below | None = None,
) -> StudyEnded:
    """Go on with the study of `record` until it has the trials that `spec` wants; returns why it ended.

    First run trials that were cut off, then anchors, then whoever may leave a rung of successive halving, then what
    the sampler suggests; no candidate is evaluated twice. A candidate whose evaluation raises is a failed trial; one
    whose worker dies runs again. On Ctrl-C the running trials end as
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
        tries: of a candidate whose workers die.
        below: at a later fidelity, what the one below has come to: no sampler is asked, who is promoted runs.

    Raises:
        StudyLeasedError: another live driver works on the study.
        StudyError: the storage fails, or twenty candidates in a row have failed.
        SpecError: an anchor lies outside the space, or nothing satisfies its constraints.
    """
    deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
    with hold_lease(record) as lease:
        record.fail_running(DRIVER_DIED)
        if below is not None:
            _take_over(below, record)
            spec = size_for(spec, below, record.trials())
        executor = make_executor(evaluator)
        driver = Driver(
            spec, record, lease, executor, watch, folder=folder, deadline=deadline, tries=tries, below=below
        )
        try:
            why = driver.run()
        except KeyboardInterrupt:
            record.stop_waiting()  # what is left running is ended by the next start
            executor.close()
            driver.give_up("interrupted")
            why = "interrupted"
        except BaseException:
            try:
                with suppress(StudyError):  # the storage may be what has failed
                    driver.give_up("The study stopped while it was evaluated.")
            finally:  # last: Ray may end this process while it lets go of a cluster whose head is lost
                executor.close()
            raise
        executor.close()
        try:
            if why != "interrupted":
                measure_front(spec, record, lease, meters, watch)
        except KeyboardInterrupt:  # what has been measured is kept
            why = "interrupted"
        return driver.end(why)


def _take_over(below: Below, record: StudyRecord) -> None:
    """What was measured of networks at the fidelity below holds at this one: it is not measured again."""
    known = measured_afterwards(record.attributes())
    for (architecture, name), measurement in below.measured.items():
        if (architecture, name) not in known:
            keep_measured(record, architecture, measurement)

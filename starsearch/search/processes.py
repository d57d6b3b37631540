"""`ProcessExecutor`: evaluations in worker processes of this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, cast

from starsearch.errors import DataError, StudyError
from starsearch.progress import Progress
from starsearch.search.executor import Job, JobEvent, JobLost, JobProgressed, follow_job, overdue
from starsearch.search.failures import failure_reason
from starsearch.search.time_limit import TimeLimit

if TYPE_CHECKING:
    from starsearch.evaluators.evaluator import Evaluator

_WAITS_S = 1.0
_DYING_S = 2.0  # between the end of a connection and that of its process
# Of the libraries that compute; read when they are loaded.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ProcessExecutor:
    """Evaluates in up to `workers` processes, each one candidate at a time.

    A process stays for the next candidate, so data are decoded once in each. One that dies is replaced. They end with
    the driver, however that ends.

    Args:
        evaluator: judges candidates; it is pickled, functions and all (cloudpickle).
        workers: how many.
        threads: of the processor each may use; None shares this machine's cores.
        time_limit_s: seconds after which an evaluation is ended as failed; the driver's own absence does not count.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        workers: int,
        threads: int | None = None,
        time_limit_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from ray import cloudpickle

        self.is_elsewhere = True
        self.capacity = workers
        dump: Any = cloudpickle.dumps  # carries no types
        self._evaluator: bytes = dump(evaluator)
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._must_have_threads = threads is not None
        self._limit = TimeLimit(time_limit_s, clock)
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def submit(self, job: Job) -> None:
        """Give the job to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else self._start_worker()
        self._busy[job.number] = worker
        worker.begin(job)

    def _start_worker(self) -> _Worker:
        with _threads_in_environment(self._threads, overrides=self._must_have_threads), _deaf_to_interrupts():
            return _Worker(self._evaluator)

    def next_event(self) -> JobEvent | None:
        """What a worker says, or that one has died; None after a second."""
        with self._limit.listening():
            late = self._limit.first_overdue()
            if late is None:
                by_connection = {worker.connection: number for number, worker in self._busy.items()}
                ready = wait(list(by_connection), timeout=_WAITS_S)
                return self._hear(by_connection[ready[0]]) if ready else None  # type: ignore[index]
            if self._busy[late].has_something_to_say:  # it may have ended while nobody listened
                return self._hear(late)
            self.cancel(late)
            assert self._limit.seconds is not None
            return overdue(late, self._limit.seconds)

    def _hear(self, number: int) -> JobEvent:
        try:
            said = self._busy[number].hear()
        except (EOFError, OSError):
            return self._bury(number)
        # Only now: until it is first heard the process starts.
        self._limit.begin(number)
        if isinstance(said, JobProgressed):  # the next time another worker is heard first
            self._busy[number] = self._busy.pop(number)
            return said
        self._idle.append(self._release(number))
        if isinstance(said, _Fatal):
            raise said.error
        return said

    def cancel(self, number: int) -> None:
        """Kill the worker of trial `number`."""
        if number in self._busy:
            self._release(number).kill()

    def close(self) -> None:
        """Kill the workers that are busy, let the others go."""
        for worker in (*self._busy.values(), *self._idle):
            worker.kill()
        self._busy.clear()
        self._idle.clear()

    def _release(self, number: int) -> _Worker:
        self._limit.forget(number)
        return self._busy.pop(number)

    def _bury(self, number: int) -> JobLost:
        worker = self._release(number)
        return JobLost(number=number, reason=f"Its worker process died ({worker.autopsy()}).")


class _Fatal:
    """What no candidate can help, in a form that can be sent."""

    def __init__(self, error: StudyError | DataError) -> None:
        self._kind = DataError if isinstance(error, DataError) else StudyError
        self._text = str(error)

    @property
    def error(self) -> StudyError | DataError:
        return self._kind(self._text)


class _Worker:
    """One process and the connection to it."""

    def __init__(self, evaluator: bytes) -> None:
        context = get_context("spawn")  # a forked torch hangs
        self.connection, theirs = context.Pipe()
        # No daemon, which may have no children: a data loader has. It ends with the connection.
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, evaluator))
        self._process.start()
        theirs.close()

    @property
    def has_something_to_say(self) -> bool:
        """Whether something lies in its connection that was not heard, be it its end."""
        return self.connection.poll()

    def begin(self, job: Job) -> None:
        """Hand over a job."""
        with suppress(OSError):  # it has died; that is heard when it is listened to
            self.connection.send(job)

    def hear(self) -> JobEvent | _Fatal:
        """The next thing it says.

        Raises:
            EOFError, OSError: it is dead.
        """
        said: JobEvent | _Fatal = self.connection.recv()
        return said

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def autopsy(self) -> str:
        """How it has ended by itself, in words."""
        self._process.join(timeout=_DYING_S)
        self.kill()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(connection: Connection, evaluator: bytes) -> None:
    """Evaluate what is asked for until the driver is gone."""
    evaluate: Evaluator | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job: Job = connection.recv()
            try:
                if evaluate is None:
                    evaluate = _load(evaluator)
                connection.send(JobProgressed(number=job.number, progress=Progress(fraction=0.0, stage="starting")))
                for event in follow_job(evaluate, job):
                    connection.send(event)
            except (StudyError, DataError) as error:
                connection.send(_Fatal(error))


def _load(evaluator: bytes) -> Evaluator:
    from ray import cloudpickle

    try:
        return cast("Evaluator", cloudpickle.loads(evaluator))
    except Exception as error:
        raise StudyError(f"A worker process cannot load what it shall evaluate: {failure_reason(error)}") from error


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """For the process that is started inside: Ctrl-C goes to all of a terminal, and is the driver's to act on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a program that is started with it stays so
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _threads_in_environment(threads: int, *, overrides: bool) -> Iterator[None]:
    """For the process that is started inside; what the user has set there stays, unless the runner says otherwise."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ |= {name: str(threads) for name, value in before.items() if value is None or overrides}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

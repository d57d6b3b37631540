"""Between Ray Tune's driver and ours: what it tells, how it is stopped, how it is kept quiet."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper

from starsearch.errors import EvaluationError, StarsearchError
from starsearch.search.tuning_log import TuningLog

# Ray's own tables, hints and signal handlers; none of it is for our users.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # a training that is stopped need not end its epoch
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


class Listener(Callback):
    """Passes on to the log what Tune's driver tells; what goes wrong with that ends the search.

    Attributes:
        trouble: what has gone wrong, to be raised once Tune has let go; None while all is well.
    """

    def __init__(self, log: TuningLog, stop: threading.Event) -> None:
        self._log = log
        self._stop = stop
        self._failed: list[Any] = []
        self.trouble: StarsearchError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes all that it was given into a file to restore from, and we go on from the record."""
        return {}

    # Tune calls all of them by keywords.
    def on_trial_start(self, *_: Any, trial: Any, **__: Any) -> None:  # type: ignore[override]
        """A trial starts, or goes on after a pause."""
        self._guarded(lambda: self._log.begin(trial.trial_id, trial.config))

    def on_trial_result(self, *_: Any, trial: Any, result: dict[str, Any], **__: Any) -> None:  # type: ignore[override]
        """A trial has been trained for an epoch."""
        self._guarded(lambda: self._log.report(trial.trial_id, result))

    def on_trial_complete(self, *_: Any, trial: Any, **__: Any) -> None:  # type: ignore[override]
        """A trial has ended or was stopped; one that the end of the search has stopped is left as running."""
        if not self._stop.is_set() or trial.last_result.get("done"):
            self._guarded(lambda: self._log.end(trial.trial_id))

    def on_trial_error(self, *_: Any, trial: Any, **__: Any) -> None:  # type: ignore[override]
        """A trial has failed; why is noted on it after this call."""
        self._failed.append(trial)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A turn of Tune's loop is over."""
        failed, self._failed = self._failed, []
        for trial in failed:
            self._tell_failure(trial, _error_of(trial))

    def on_experiment_end(self, *_: Any, **__: Any) -> None:
        """Tune's loop is over."""
        self.on_step_end()

    def _tell_failure(self, trial: Any, error: BaseException | None) -> None:
        """Without a cause of its own the trial's worker or node has died, it may be before the trial was started."""
        cause = getattr(error, "cause", None)
        self._guarded(lambda: self._log.begin(trial.trial_id, trial.config))
        self._guarded(lambda: self._log.fail(trial.trial_id, cause or error, interrupted=cause is None))
        if isinstance(cause, StarsearchError) and not isinstance(cause, EvaluationError):
            self._end(cause)  # the data or the disk: no recipe's fault

    def _guarded(self, tell: Callable[[], None]) -> None:
        """Raised here, an error would end as text in an error of Tune's."""
        if self.trouble is None:
            try:
                tell()
            except StarsearchError as error:
                self._end(error)

    def _end(self, error: StarsearchError) -> None:
        self.trouble = self.trouble or error
        self._stop.set()


class StopAll(Stopper):
    """Ends the whole search once `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 — Tune's signature
        """No trial is stopped by itself."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as `Listener`'s."""
        return {}

    def stop_all(self) -> bool:
        """Whether the search is over."""
        return self._stop.is_set()


def _error_of(trial: Any) -> BaseException | None:
    """What a trial has failed by; Tune's own reader looks where the file comes only later."""
    from ray import cloudpickle

    file = trial.pickled_error_file
    if file is None or not Path(file).is_file():
        return None
    found = cloudpickle.loads(Path(file).read_bytes())
    return found if isinstance(found, BaseException) else None


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Ray Tune says nothing, and leaves signals alone."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Ray will change
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

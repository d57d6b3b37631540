"""Trainings as TensorBoard shows them: an event file with a step an epoch, beside the training's other files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starsearch.progress import Progress
from starsearch.search.events import Event, TrialEnded, TrialProgressed

FOLDER = "tensorboard"


class Curve:
    """A training's curve in a folder; that of a training which is resumed goes on, without steps that are there twice.

    Each process writes a file of its own, since one that was killed may have left half a record; its first record tells
    TensorBoard to forget what other files say of later steps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None

    def add(self, progress: Progress) -> None:
        """Write the readings of an epoch, at once; it takes less than a millisecond."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.record_writer import RecordWriter

        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Read in the order of their names.
            self._file = RecordWriter(str(self._folder / f"events.out.tfevents.{time.time():.6f}"))
            began = SessionLog(status=SessionLog.START)
            self._write(Event(file_version="brain.Event:2"), Event(step=progress.epoch, session_log=began))
        values = [Summary.Value(tag=name, simple_value=value) for name, value in progress.values.items()]
        self._write(Event(step=progress.epoch, summary=Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        """Close the file; one that is added to again is another."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, *events: Any) -> None:
        for event in events:
            event.wall_time = time.time()
            self._file.write(event.SerializeToString())


class StudyCurves:
    """Writes each candidate's curve, in a folder named after its first trial and its key; passes the events on."""

    def __init__(self, folder: Path, watch: Callable[[Event], None]) -> None:
        self._folder, self._watch = folder, watch
        self._curves: dict[str, Curve] = {}

    def __call__(self, event: Event) -> None:
        """Add an epoch that has been validated to its curve."""
        match event:
            case TrialProgressed(trial=trial, progress=progress) if progress.epoch is not None:
                if trial.key not in self._curves:
                    new = self._folder / f"{trial.number}-{trial.key}"
                    self._curves[trial.key] = Curve(next(self._folder.glob(f"*-{trial.key}"), new))
                self._curves[trial.key].add(progress)
            case TrialEnded(trial=trial) if trial.key in self._curves:
                self._curves.pop(trial.key).close()
        self._watch(event)

"""Evaluators that are sent to other processes, and do there what a test asks for."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from starsearch.errors import StudyError
from starsearch.measurement import Measurement
from starsearch.progress import Progress
from tests.search.studies import measure


def say(folder, name, text=""):
    """Leave a note that no other evaluation overwrites; whether it is the first of this name."""
    try:
        with (Path(folder) / name).open("x") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class Worker:
    """Notes every evaluation in `folder`; `does` says what else happens, the first time or each time."""

    folder: str
    does: dict = field(default_factory=dict)  # by embed_dim of the candidate

    def __call__(self, candidate, *, seed, weights, part):
        number = len(list(Path(self.folder).glob(f"{candidate.key}-*")))
        say(self.folder, f"{candidate.key}-{number}", str(os.getpid()))
        yield Progress(fraction=0.5, stage="training", epoch=1, values={"top1_percent": 50.0})
        what = self.does.get(candidate.architecture.embed_dim)
        if what == "die" or (what == "die once" and number == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raise":
            raise ValueError("the network is no good")
        if what == "stop":
            raise StudyError("The disk is full.")
        if what == "wait" or (what == "wait once" and number == 0):
            with (Path(self.folder) / "gate").open() as gate:  # a FIFO: until somebody opens it to write
                gate.read()
        yield Progress(fraction=0.9, stage="latency")
        return measure(candidate)


@dataclass(frozen=True)
class Timer:
    """The part of an evaluation that runs on the device."""

    folder: str

    def __call__(self, candidate, *, seed, weights, part):
        import ray

        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        say(self.folder, f"timed-{candidate.key}", node)
        yield Progress(fraction=1.0, stage="latency")
        return (Measurement(name="latency_ms", value=1.0, device="the device"),)


@dataclass(frozen=True)
class Untimed:
    """The part that does not."""

    def __call__(self, candidate, *, seed, weights, part):
        yield Progress(fraction=0.9, stage="training")
        return tuple(one for one in measure(candidate) if one.name != "latency_ms")

"""Batches from worker processes that outlive what is meant for the trainer alone, and are missed in words."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import TypeVar

from torch.utils.data import DataLoader

from starsearch.errors import WorkerLostError

T = TypeVar("T", covariant=True)


def iterate(loader: DataLoader[T]) -> Iterator[T]:
    """What the loader loads, which has `outlive_signals` as its `worker_init_fn`.

    Raises:
        WorkerLostError: a worker process was killed. It comes in place of a batch, never in the midst of a step.
    """
    batches = _without_interruption(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:  # torch's is no other type
            if "DataLoader worker" not in str(error):
                raise
            raise WorkerLostError(
                f"A process that reads images is gone ({str(error).splitlines()[0]}). What kills one is memory most "
                "often: of the machine, or the shared memory in /dev/shm, which containers make small (docker run "
                "--shm-size). Fewer --workers take less."
            ) from error
        yield batch


def _without_interruption(loader: DataLoader[T]) -> Iterator[T]:
    """Its batches, without the handler of SIGCHLD that torch installs with the first processes.

    The handler raises a worker's death in whatever line is running, between a step of the optimiser and its count too.
    Without it a loader sees within 5 s of waiting that a worker is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)  # torch leaves the handler alone too
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if before is not None:  # another loader's processes may have left torch's there
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if _is_torchs(before) else before)
    return batches


def _is_torchs(handler: object) -> bool:
    return str(getattr(handler, "__module__", "")).startswith("torch.")


def outlive_signals(_: int) -> None:
    """In a worker process: leave Ctrl-C and SIGTERM to the trainer, which reads on while it saves.

    Terminals, schedulers and torchrun signal the whole process group. Only the trainer's own SIGTERM ends the worker,
    as in torch's handler: Python sends it to children that are left at its exit, and waits for them. A worker whose
    trainer is killed sees that by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not say who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)

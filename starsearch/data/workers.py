"""Images that worker processes decode and augment in each pass.

An image's augmentation is drawn from (seed, epoch, image) alone, so that neither the number of processes nor the place
at which a pass begins makes a difference. A broken image is named and counted, and another one takes its place.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from starsearch.data.augmentation import augment
from starsearch.data.dataset import Split
from starsearch.data.unreadable import Unreadable, read_or_note
from starsearch.errors import WorkerLostError, first_line

T = TypeVar("T", covariant=True)
Sample = tuple[torch.Tensor | None, int, tuple[str, ...]]  # (3, height, width) uint8, class, unreadable images
_MOST_TRIES = 20  # for a place in a batch; more in a row are no accident of single files
_MOST_WORKERS = 8


def num_workers(workers: int | None = None) -> int:
    """Return how many processes decode: None is as many as torch has threads, of which each training has its share."""
    return min(_MOST_WORKERS, torch.get_num_threads()) if workers is None else workers


class Samples(Dataset[Sample]):
    """Decodes and transforms the image of a key (epoch, index), in a worker process.

    Another image is drawn from the indices `substitutes` for a broken one; None leaves its place empty.
    """

    def __init__(self, split: Split, transform: Any, *, seed: int, substitutes: NDArray[np.int64] | None) -> None:
        self._split, self._transform, self._seed, self._substitutes = split, transform, seed, substitutes

    def __getitem__(self, key: Sequence[int]) -> Sample:
        epoch, index = map(int, key)
        unreadable: list[str] = []
        substitute = np.random.default_rng([self._seed, epoch, index])
        for _ in range(_MOST_TRIES):
            image = read_or_note(self._split, index)
            if not isinstance(image, str):
                with drawing_from(self._seed, epoch, index):
                    pixels = augment(self._transform, image)
                return pixels, int(self._split.targets[index]), tuple(unreadable)
            unreadable.append(image)
            if self._substitutes is None:
                break
            index = int(substitute.choice(self._substitutes))
        return None, -1, tuple(unreadable)


@contextmanager
def drawing_from(*seed: int) -> Iterator[None]:
    """Seed the global random states, from which timm's transforms draw, for the time of the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 — timm's, not ours
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.default_generator.manual_seed(number)  # not torch.manual_seed: that would seed the GPUs too
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _collate(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return (batch, height, width, 3) uint8 and (batch,) int64 of what could be read, and what could not."""
    pixels = [image for image, *_ in samples if image is not None]
    targets = [target for image, target, _ in samples if image is not None]
    stacked = torch.stack(pixels).permute(0, 2, 3, 1).contiguous() if pixels else torch.empty(0, dtype=torch.uint8)
    return stacked, torch.tensor(targets, dtype=torch.int64), [name for *_, names in samples for name in names]


@dataclass(frozen=True, slots=True)
class LoadedImages:
    """The images of a split as `workers` processes decode them in each pass; 0 decodes in this one.

    With `pin` batches lie in memory from which a GPU fetches them by itself.
    """

    samples: Samples
    unreadable: Unreadable
    workers: int | None = None
    pin: bool = False

    def load(
        self, indices: NDArray[np.int64], *, epoch: int, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the pixels and targets of these images in their order, `batch_size` at a time."""
        keys = np.column_stack([np.full_like(indices, epoch), indices])
        batches: Any = [keys[at : at + batch_size] for at in range(0, len(keys), batch_size)]  # views, not copies
        loader: DataLoader[Any] = DataLoader(
            self.samples,
            batch_sampler=batches,
            num_workers=num_workers(self.workers),
            collate_fn=_collate,
            pin_memory=self.pin,
            worker_init_fn=outlive_signals,
            generator=torch.Generator(),  # its own: a pass that begins in the middle draws no more than a whole one
        )
        for pixels, targets, names in iterate(loader):
            self.unreadable.note(names)
            if len(targets):
                yield pixels, targets
        self.unreadable.end_pass()


def iterate(loader: DataLoader[T]) -> Iterator[T]:
    """Yield a loader's batches; a killed worker is an error in place of one, never in the midst of a step."""
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
                f"A process that reads images was killed ({first_line(error)}). The usual cause is lack of memory: of "
                "the machine, or of /dev/shm, which containers make small (docker run --shm-size). Fewer --workers "
                "take less."
            ) from error
        yield batch


def _without_interruption(loader: DataLoader[T]) -> Iterator[T]:
    """Return the loader's iterator, without the handler of SIGCHLD that torch installs with the first processes.

    The handler raises a worker's death in whatever line is running, between a step of the optimiser and its count too.
    Without it a loader notices within 5 s of waiting that a worker was killed.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)  # torch leaves the handler alone too
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if before is not None:  # another loader's processes may have left torch's there
        is_torchs = str(getattr(before, "__module__", "")).startswith("torch.")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else before)
    return batches


def outlive_signals(_: int) -> None:
    """In a worker process: leave Ctrl-C and SIGTERM to the trainer, which reads on while it saves.

    Terminals and torchrun signal the whole process group, Slurm every process of a step, so that a group of its own
    would not protect a worker. Only the trainer's own SIGTERM ends it, as in torch's handler: Python sends it to
    children that are left at its exit, and waits for them. A worker whose trainer is killed sees that by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not say who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)

"""`Ranks`: the processes that train one network together, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from starsearch.errors import EvaluationError, first_line
from starsearch.training.hardware import Hardware

T = TypeVar("T")

# Before the first step a rank opens its data and may compile its network, which one may do in seconds and another, on
# a cold file system, in many minutes.
BEGUN_WITHIN = timedelta(minutes=30)
# From then on a rank that is lost is noticed by the others within a minute. It is longer than anything a rank does
# between two steps while the others wait: a checkpoint is written in a second or two.
LOST_AFTER = timedelta(seconds=60)


class Ranks:
    """What the ranks of a process group agree on; a process alone agrees with itself."""

    def __init__(self, hardware: Hardware) -> None:
        self.rank = hardware.rank
        self.count = hardware.world_size
        self._device = hardware.device
        self._is_hurried = self.is_alone

    @property
    def is_alone(self) -> bool:
        """Whether there is only this process."""
        return self.count == 1

    def note_step(self) -> None:
        """Notice a lost rank after `LOST_AFTER` from the first step on, when all are at work."""
        if not self._is_hurried:
            dist.set_timeout(LOST_AFTER)
            self._is_hurried = True

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over the ranks, on every rank."""
        if self.is_alone:
            return values
        total = values.to(self._device, copy=True)
        dist.all_reduce(total)
        return total

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether any rank has raised it."""
        if self.is_alone:
            return flags
        return tuple(bool(count) for count in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist())

    def gather(self, item: T) -> list[T]:
        """Return every rank's item, in the order of the ranks, on every rank."""
        if self.is_alone:
            return [item]
        items: list[Any] = [None] * self.count
        dist.all_gather_object(items, item)
        return items

    def average_batch_norms(self, model: nn.Module) -> None:
        """Average the running statistics over the ranks, so that all validate the same network."""
        from timm.utils import distribute_bn

        if not self.is_alone:
            distribute_bn(model, self.count, reduce=True)


@contextmanager
def joined_ranks(hardware: Hardware, *, within: timedelta = BEGUN_WITHIN) -> Iterator[Hardware]:
    """Yield the hardware with this process's rank, number of ranks and device, in a process group for the block.

    A process group that is there already (Ray Train makes one) is taken as it is; if torchrun has started the process,
    its environment says with whom to make one: over NCCL between GPUs, else over gloo. Until `Ranks.note_step` the
    ranks wait for each other `within` that time.
    """
    if dist.is_initialized():
        yield _placed(hardware, rank=dist.get_rank(), world_size=dist.get_world_size())
        return
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "RANK" not in os.environ:
        yield hardware
        return
    mine = _placed(hardware, rank=int(os.environ["RANK"]), world_size=world_size)
    _meet(mine, within)
    try:
        yield mine
    finally:
        dist.destroy_process_group()


def _meet(hardware: Hardware, within: timedelta) -> None:
    try:
        dist.init_process_group("nccl" if hardware.device_type == "cuda" else "gloo", timeout=within)
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        raise EvaluationError(
            f"The {hardware.world_size} ranks have not met at {where} ({first_line(error)}). They wait "
            f"{within.total_seconds():g} s for each other. Start all of them, with the same MASTER_ADDR, MASTER_PORT "
            "and WORLD_SIZE and each with a RANK of its own, as torchrun does. Nothing was trained."
        ) from error


def _placed(hardware: Hardware, *, rank: int, world_size: int) -> Hardware:
    device = hardware.device
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
        torch.cuda.set_device(device)
    return replace(hardware, rank=rank, world_size=world_size, device=device)


@contextmanager
def telling_of_lost_ranks(hardware: Hardware, *, last: Path) -> Iterator[None]:
    """Say in words that another rank was lost, where torch says it in those of its sockets.

    `last` is the file of the training's state, from which it resumes.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's are no other type
        if hardware.world_size == 1 or not _is_of_connection(error):
            raise
        kept = (
            f"The last good state is kept in {last.parent}; the same command resumes from it."
            if last.is_file()
            else "Nothing is kept yet; the same command begins anew."
        )
        raise EvaluationError(
            f"Another of the {hardware.world_size} ranks was lost, or has not answered in time "
            f"({first_line(error)}). {kept}"
        ) from error


def _is_of_connection(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    said = str(error).lower()
    return any(word in said for word in ("gloo", "nccl", "connection", "timed out", "process group"))

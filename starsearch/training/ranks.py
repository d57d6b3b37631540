"""`Ranks`: the processes that train one network together, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from starsearch.errors import EvaluationError
from starsearch.training.hardware import Hardware

T = TypeVar("T")

# A rank that is lost is noticed by the others within a minute. It is longer than anything a rank does between two
# steps while the others wait: a checkpoint is written in a second or two.
LOST_AFTER = timedelta(seconds=60)


class Ranks:
    """What the ranks of a process group agree on; of a process alone, everything is its own.

    Args:
        hardware: rank, number of ranks and device of this process.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.rank = hardware.rank
        self.count = hardware.world_size
        self._device = hardware.device

    @property
    def is_alone(self) -> bool:
        """Whether there is only this process."""
        return self.count == 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the ranks, on every rank; a new tensor."""
        if self.is_alone:
            return values
        total = values.to(self._device, copy=True)
        dist.all_reduce(total)
        return total

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether a rank has raised it."""
        if self.is_alone:
            return flags
        return tuple(bool(count) for count in self.sum(torch.tensor(flags, dtype=torch.int32)).tolist())

    def gather(self, item: T) -> list[T]:
        """Every rank's item, in the order of the ranks, on every rank."""
        if self.is_alone:
            return [item]
        items: list[Any] = [None] * self.count
        dist.all_gather_object(items, item)
        return items

    def average_batch_norms(self, model: nn.Module) -> None:
        """Let the running statistics of all ranks be their mean, so that all validate the same network."""
        from timm.utils import distribute_bn

        if not self.is_alone:
            distribute_bn(model, self.count, reduce=True)


@contextmanager
def joined_ranks(hardware: Hardware) -> Iterator[Hardware]:
    """The hardware with rank, number of ranks and device of this process, in a process group for the time of the block.

    A process group that is there already (Ray Train makes one) is taken as it is; where torchrun has started the
    process, its environment says with whom to make one: over NCCL between GPUs, over gloo else.
    """
    if dist.is_initialized():
        yield _placed(hardware, rank=dist.get_rank(), world_size=dist.get_world_size())
        return
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or "RANK" not in os.environ:
        yield hardware
        return
    mine = _placed(hardware, rank=int(os.environ["RANK"]), world_size=world_size)
    dist.init_process_group("nccl" if mine.device_type == "cuda" else "gloo", timeout=LOST_AFTER)
    try:
        yield mine
    finally:
        dist.destroy_process_group()


def _placed(hardware: Hardware, *, rank: int, world_size: int) -> Hardware:
    device = hardware.device
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
        torch.cuda.set_device(device)
    return replace(hardware, rank=rank, world_size=world_size, device=device)


@contextmanager
def telling_of_lost_ranks(hardware: Hardware, *, kept: str) -> Iterator[None]:
    """Say in words that another rank is gone; torch says it in those of its sockets.

    Args:
        hardware: how many ranks there are.
        kept: where the training goes on from, in words.

    Raises:
        EvaluationError: a rank was lost.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's are no other type
        if hardware.world_size == 1 or not _is_of_connection(error):
            raise
        said = str(error).strip().splitlines()[0]
        raise EvaluationError(
            f"Another of the {hardware.world_size} ranks is gone, or has not answered for "
            f"{LOST_AFTER.total_seconds():.0f} s ({said}). {kept}"
        ) from error


def _is_of_connection(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    said = str(error).lower()
    return any(word in said for word in ("gloo", "nccl", "connection", "timed out", "process group"))

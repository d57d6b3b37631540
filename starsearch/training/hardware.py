"""`Hardware`: what a training runs on, and in which numbers: how fast a recipe is carried out, not what it says."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from starsearch.errors import EvaluationError

Precision = Literal["float32", "bfloat16", "float16"]
# Seconds that torch.compile takes for a network (40 to 48 on one H100 with torch 2.11), and the share of a step's time
# that it is taken to save: an assumption, below the 56 % by which it shortens S1's inference in timm's published
# results (224 px, RTX 4090: 11,074 and 25,329 images/s), part of which a captured step has saved already.
COMPILING_S, SAVED_BY_COMPILING = 48.0, 0.25
_NOTED_SHARE = 0.1  # of a GPU's memory, from which on it is said that other processes hold it
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device() -> str:
    """Return "cuda" where torch finds a GPU, else "cpu"; warn where GPUs are named and none of them is found."""
    if torch.cuda.is_available():
        return "cuda"
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES", "")) not in ("", "-1", "NoDevFiles"):
        warnings.warn(
            f"CUDA_VISIBLE_DEVICES is {named}, and torch finds no such GPU: the CPU is used. `nvidia-smi -L` lists "
            "GPUs and their MIG slices, `starsearch doctor` examines the rest.",
            stacklevel=2,
        )
    return "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Device, numbers and processes of one training; the defaults are a proxy's on a CPU.

    Attributes:
        device: torch's name.
        precision: of the forward pass, by autocast; weights and optimiser stay in float32. The star's product and its
            projection stay in float32 under "float16", which they would overflow.
        capture: whether a step is carried out as a `CapturedStep`; None does so where it pays, on a GPU alone.
        compile: whether `torch.compile` makes the forward pass once the rest of the training is seen to be long enough
            (`judge_compiling`), between several ranks from the first step on; None is for a GPU alone.
        accumulate: micro-batches per step; the recipe's batch is cut into so many, and stepped on as a whole.
        sync_batch_norm: whether batch norms take their statistics over all ranks; on GPUs only.
        workers: processes per rank that decode images; 0 decodes in the training's own; None is as many as torch has
            threads, 8 at most.
        rank, world_size: this process's number from 0 among those that train together, and how many these are.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    capture: bool | None = None
    compile: bool | None = None
    accumulate: int = 1
    sync_batch_norm: bool = False
    workers: int | None = None
    rank: int = 0
    world_size: int = 1

    @property
    def device_type(self) -> str:
        """The device without a number: "cpu", "cuda" …."""
        return torch.device(self.device).type

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and reports."""
        return self.rank == 0

    @property
    def captures(self) -> bool:
        """Whether a step is a `CapturedStep`. Between ranks, and where a scaler looks for overflows, it cannot be."""
        wanted = self.device_type == "cuda" if self.capture is None else self.capture
        return wanted and self.world_size == 1 and self.precision != "float16"

    @property
    def may_compile(self) -> bool:
        """Whether it is to be decided during a training if its step is compiled."""
        return self.world_size == 1 and (self.device_type == "cuda" if self.compile is None else self.compile)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.precision == "float32":
            return nullcontext()
        # A captured step may not find weights that were cast before it, and none is cast twice.
        return torch.autocast(self.device_type, dtype=_HALVES[self.precision], cache_enabled=False)

    def check(self, batch_size: int) -> None:
        """Refuse ranks or micro-batches that do not divide the batch, and batch norms synchronised on a CPU."""
        parts = self.world_size * self.accumulate
        if batch_size % parts:
            nearest = max(1, round(batch_size / parts)) * parts
            raise EvaluationError(
                f"batch_size {batch_size} is the whole batch of a step, shared by {self.world_size} ranks × "
                f"{self.accumulate} micro-batches, which do not divide it; take {nearest}, or another --accumulate."
            )
        if self.sync_batch_norm and self.device_type == "cpu":
            raise EvaluationError("Batch norms are synchronised on GPUs only: torch has no such kernel for CPUs.")

    def out_of_memory(self, batch_size: int) -> EvaluationError:
        """Return the error for a step's batch that does not fit the GPU."""
        now, held = self.micro_batch(batch_size), ""
        if torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info(self.device)
            others = total - free - torch.cuda.memory_reserved(self.device)
            if others > _NOTED_SHARE * total:
                held = f" Other processes hold {others / 1e9:.1f} of its {total / 1e9:.1f} GB."
        return EvaluationError(
            f"The GPU ({self.device}) is out of memory with {now} images at a time.{held} --accumulate "
            f"{2 * self.accumulate} takes the same batch of {batch_size} by {max(1, now // 2)} images at a time; "
            "--precision bfloat16 halves what an image takes."
        )

    def micro_batch(self, batch_size: int) -> int:
        """Return how many images go through the network of a rank at once."""
        return batch_size // (self.world_size * self.accumulate)


def judge_compiling(rest_s: float) -> tuple[bool, str]:
    """Return whether compiling would save more of a training's rest, in seconds, than it takes, and why, in words."""
    saved_s = SAVED_BY_COMPILING * rest_s
    pays = saved_s > COMPILING_S
    return pays, (
        f"The forward pass is {'' if pays else 'not '}compiled: that takes about {COMPILING_S:.0f} s, and would save "
        f"about {saved_s:,.0f} of the {rest_s:,.0f} s that the rest of the training is predicted to take."
    )

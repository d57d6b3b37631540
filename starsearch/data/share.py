"""Which images come when, and which of them are whose: an epoch's order, and the ranks' shares of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_ORDER = 0x0BDE2  # keeps the draw of an order apart from others of the same seed


Names = tuple[str, ...]


def _own(names: Names) -> Sequence[Names]:
    """Of a process alone."""
    return (names,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of the images of each batch is this process's, and how it reads them.

    Attributes:
        rank: of this process among those that train together.
        ranks: how many these are.
        device: of torch, on which batches are augmented and handed over.
        workers: processes that decode images; None is as many as torch has threads, 8 at most.
        gather: from names to those of every rank, in the order of the ranks; all ranks call it at the end of a pass.
    """

    rank: int = 0
    ranks: int = 1
    device: str = "cpu"
    workers: int | None = None
    gather: Callable[[Names], Sequence[Names]] = _own

    def of_batches(self, order: NDArray[np.int64], batch_size: int, *, at: int) -> NDArray[np.int64]:
        """Of the whole batches of an order from batch `at` on, this process's part of each, one after another."""
        whole = order[: len(order) // batch_size * batch_size].reshape(-1, self.ranks, batch_size // self.ranks)
        return whole[at:, self.rank].reshape(-1)

    def of_images(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those this process validates: together the ranks have each image once."""
        return indices[self.rank :: self.ranks]

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device."""
        return tensor.to(self.device, non_blocking=True)

    @property
    def pins(self) -> bool:
        """Whether a GPU fetches the batches."""
        return self.device.startswith("cuda")


ALL = Share()


def order_of_images(num_images: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """(num_images,), the order in which an epoch goes through them."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(num_images)

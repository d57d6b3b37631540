"""PyTorch without a compiler, on the processor: for comparison with what a deployment runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.latency.backends.backend import Network
from starsearch.latency.backends.networks import as_module, image_channels
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing
from starsearch.latency.onnxruntime import clock_ns, first_line

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchEager:
    """PyTorch in eval and inference mode, float32, channels last, batch 1; batch norms are not folded.

    Channels last, since that is the faster layout: StarNet-S1 takes 29.8 ms of a Zen 4 core in it, 32.5 in the default.

    Attributes:
        threads: that one network uses.
    """

    threads: int = 1

    @property
    def calibration_runs(self) -> int:
        """A few seconds."""
        return 100

    @property
    def copies(self) -> int:
        """One: PyTorch takes memory anew in each run."""
        return 1

    def missing(self) -> str | None:
        """Nothing: PyTorch comes with starsearch."""
        return None

    def describe_device(self) -> Device:
        """This machine's processor."""
        return device_fingerprint(
            threads=self.threads, runtime=f"torch {version('torch')}", optimization="eager, channels last"
        )

    def make_timer(self, network: Network, *, resolution: int, rng: np.random.Generator) -> TorchTimer:
        """The module with an image; a reading is one forward pass."""
        with computing():
            module = as_module(network, resolution=resolution, rng=rng)
            return TorchTimer(module, resolution=resolution, rng=rng, threads=self.threads)


class TorchTimer:
    """A module made ready; calling it runs it once and returns the milliseconds that took.

    Args:
        module: of images, in eval mode; its weights are put into channels last.
        resolution: of the image, in pixels.
        rng: of the image's values.
        threads: that PyTorch may use meanwhile.
    """

    def __init__(self, module: nn.Module, *, resolution: int, rng: np.random.Generator, threads: int = 1) -> None:
        import torch

        shape = (1, image_channels(module), resolution, resolution)
        image = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        self._image = image.to(memory_format=torch.channels_last)
        self._module = module.to(memory_format=torch.channels_last)
        self._threads = threads
        self._clock_ns = clock_ns(threads)

    def __call__(self) -> float:
        """Milliseconds of one forward pass.

        Raises:
            EvaluationError: the module failed.
        """
        import torch

        with _torch_threads(self._threads), torch.inference_mode():
            begin = self._clock_ns()
            try:
                self._module(self._image)
            except RuntimeError as error:
                raise EvaluationError(f"PyTorch could not run the network: {first_line(error)}") from error
            return (self._clock_ns() - begin) / 1e6


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    """PyTorch's number of threads belongs to the process: it is set for the run and put back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""PyTorch without a compiler, on the processor: for comparison with what a deployment runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from starsearch.errors import EvaluationError, first_line
from starsearch.latency.backends.backend import BackendOptions, Network
from starsearch.latency.backends.networks import as_module, image_channels
from starsearch.latency.backends.onnxruntime import clock_ns
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.lock import computing
from starsearch.resolution import Resolution, sides


@dataclass(frozen=True, slots=True)
class TorchEager:
    """PyTorch in eval and inference mode, float32, channels last, batch 1; batch norms are not folded.

    Channels last is the faster layout: StarNet-S1 takes 29.8 ms of a Zen 4 core in it, 32.5 in the default.
    """

    options: BackendOptions

    calibration_runs: ClassVar[int] = 100  # a few seconds
    copies: ClassVar[int] = 1  # PyTorch takes memory anew in each run

    def missing(self) -> str | None:
        """Return None: PyTorch comes with starsearch."""
        return None

    def describe_device(self) -> Device:
        """Return this machine's processor."""
        runtime = f"torch {version('torch')}"
        return device_fingerprint(threads=self.options.threads, runtime=runtime, optimization="eager, channels last")

    def make_timer(self, network: Network, *, resolution: Resolution, rng: np.random.Generator) -> Callable[[], float]:
        """Make the module ready with an image; a reading is one forward pass."""
        import torch

        threads = self.options.threads
        clock = clock_ns(threads)
        with computing():
            module = as_module(network, resolution=resolution, rng=rng).to(memory_format=torch.channels_last)
            pixels = rng.standard_normal((1, image_channels(module), *sides(resolution)), dtype=np.float32)
            image = torch.from_numpy(pixels).to(memory_format=torch.channels_last)

        def read() -> float:
            before = torch.get_num_threads()  # it belongs to the process: set for the run and put back
            torch.set_num_threads(threads)
            try:
                with torch.inference_mode():
                    begin = clock()
                    module(image)
                    return (clock() - begin) / 1e6
            except RuntimeError as error:
                raise EvaluationError(f"PyTorch could not run the network: {first_line(error)}") from error
            finally:
                torch.set_num_threads(before)

        return read

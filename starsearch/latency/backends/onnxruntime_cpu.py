"""ONNX Runtime on the processor: the default, and where the paired protocol was proved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starsearch.latency.backends.backend import Network
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import COPIES


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntimeCpu:
    """ONNX Runtime on the processor, all graph optimisations on, batch 1.

    One thread is timed by its own CPU time, which stands still while another process has the core; more by the wall's.

    Attributes:
        threads: that one network uses.
    """

    threads: int = 1

    @property
    def calibration_runs(self) -> int:
        """One to three seconds."""
        return 100

    @property
    def copies(self) -> int:
        """Eight: a stretch each at 40 pairs."""
        return COPIES

    def missing(self) -> str | None:
        """Nothing: ONNX Runtime comes with starsearch."""
        return None

    def describe_device(self) -> Device:
        """This machine's processor."""
        return device_fingerprint(threads=self.threads)

    def make_timer(self, network: Network, *, resolution: int, rng: np.random.Generator) -> OnnxRuntimeTimer:
        """A session of the network; a reading is one run."""
        return OnnxRuntimeTimer(as_onnx(network, resolution=resolution, rng=rng), rng=rng, threads=self.threads)

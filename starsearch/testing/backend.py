"""What every latency backend does."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from starsearch.errors import StarsearchError
from starsearch.families.family import Architecture
from starsearch.latency.backends.backend import Backend


class BackendContract:
    """A backend makes timers whose calls are milliseconds, and describes its device the same way each time."""

    resolution = 32

    @pytest.fixture
    def make_backend(self) -> Callable[[], Backend]:
        """Makes a `starsearch.latency.backends.backend.Backend` with the same options ; override it."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self, make_backend: Callable[[], Backend]) -> Backend:
        """The backend; its tests are skipped where this machine cannot run it."""
        backend = make_backend()
        if (missing := backend.missing()) is not None:
            pytest.skip(missing)
        return backend

    @pytest.fixture
    def network(self) -> Architecture:
        """What is timed."""
        return Architecture.of(embed_dim=8, depths=(1, 1, 1, 1))

    def test_equal_backends_are_one(self, make_backend: Callable[[], Backend]) -> None:
        """What was made ready for one serves its equals: the reference's timer is kept by backend."""
        assert make_backend() == make_backend()
        assert hash(make_backend()) == hash(make_backend())
        assert min(make_backend().copies, make_backend().calibration_runs) >= 1

    def test_the_device_is_described_in_words_that_do_not_change(self, backend: Backend) -> None:
        """Profiles and references are of one device, compared by its text."""
        assert backend.describe_device() == backend.describe_device()
        assert backend.describe_device().text.strip()

    def test_a_timer_gives_milliseconds(self, backend: Backend, network: Architecture) -> None:
        """Each call is one reading, batch 1."""
        timer = backend.make_timer(network, resolution=self.resolution, rng=np.random.default_rng(0))
        readings = [timer() for _ in range(3)]
        assert all(math.isfinite(ms) and 0 < ms < 60_000 for ms in readings)

    def test_what_it_cannot_run_is_refused_in_words(self, backend: Backend) -> None:
        """The error is the user's, not a runtime's."""
        with pytest.raises(StarsearchError):
            backend.make_timer(b"no network", resolution=self.resolution, rng=np.random.default_rng(0))

import pytest

from starsearch.latency.lock import MachineLock


@pytest.fixture
def alone(tmp_path):
    """A lock of the test's own: it neither waits for other runs on this machine nor stops them."""
    return MachineLock(tmp_path / "lock").measuring

"""Real Ray clusters on this machine; one is shared by all tests of a session that do not break it."""

from contextlib import contextmanager

import pytest

# A token is not written into the home folder; beside other tests Ray's polite workers would starve.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}


@contextmanager
def started(**head):
    """A cluster of a head, which computes nothing unless `head` says so."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False} | head)
        try:
            yield found
        finally:
            found.shutdown()


@pytest.fixture(scope="session")
def ray_cluster():
    """A head and two nodes, one of which carries the device `phone`."""
    with started() as found:
        found.add_node(num_cpus=2)
        found.add_node(num_cpus=2, resources={"phone": 1})
        found.wait_for_nodes()
        yield found


@pytest.fixture
def ray_environment(monkeypatch):
    """For tests whose command starts a cluster of its own."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def address_in_environment(cluster, patched):
    for name, value in (ENVIRONMENT | {"RAY_ADDRESS": cluster.address}).items():
        patched.setenv(name, value)

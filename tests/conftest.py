"""Set before anything imports torch, here and in the processes that tests start."""

import os
import tempfile
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest
from hypothesis import settings

from tests.ray_clusters import ray_cluster, ray_environment  # noqa: F401 # fixtures

# The suite runs a process a core (pytest-xdist): more threads would only wait for each other. Nor do tiny networks,
# tiny images and the Gaussian process's small matrices gain anything by them.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

# The default suite tries the same examples each time; CI tries others with --hypothesis-profile random.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_folder(tmp_path_factory):
    """A process of pytest-xdist neither waits for another's trainings to measure a latency, nor for its measurements.

    The lock between them lies in the temporary folder. Its path is short: Ray's sockets are in it.
    """
    tmp_path_factory.getbasetemp(), get_temp_dir()  # they outlive the folder
    with (
        tempfile.TemporaryDirectory(prefix="test-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patched,
    ):
        Path(folder).chmod(0o1777)  # as /tmp: some tests become another user, and PostgreSQL never runs as root
        patched.setenv("TMPDIR", folder)
        patched.setenv("HF_DATASETS_CACHE", f"{folder}/datasets")
        patched.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True, scope="session")
def _schema_history_read_once():
    """Optuna reads the thirty files of its schema's history anew for each database, and the tests open hundreds."""
    from alembic.script import ScriptDirectory

    read, kept = ScriptDirectory.from_config, {}

    def from_config(config):
        where = config.get_main_option("script_location")
        return kept[where] if where in kept else kept.setdefault(where, read(config))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ScriptDirectory, "from_config", from_config)
        yield

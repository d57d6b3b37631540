"""A Ray cluster whose head is lost in the middle of a run; the driver is a process of its own."""

import os
import subprocess

import pytest

from starsearch.records.table import load_trials
from tests.command_line import running
from tests.ray_clusters import ENVIRONMENT, started
from tests.search.studies import url_of

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

TRIALS = 11


def driver(address, folder, **environment):
    command = ("-m", "tests.search.ray_driver_process", address, folder, TRIALS)
    return running(*command, stderr=subprocess.PIPE, environment={**ENVIRONMENT, **environment})


def complete(folder):
    trials = load_trials(url_of(folder))
    return trials[trials["state"] == "COMPLETE"].set_index("number")


@pytest.mark.parametrize("is_back", [False, True])  # silent, or another head at the same address
def test_after_a_lost_head_the_same_command_goes_on_and_nothing_finished_is_lost_or_doubled(tmp_path, is_back):
    os.mkfifo(tmp_path / "gate")  # nobody opens it: two evaluations wait there for ever
    with started(num_cpus=2) as cluster:
        with driver(cluster.address, tmp_path, RAY_gcs_rpc_server_reconnect_timeout_s="5") as process:
            ended = (line for line in process.stdout if line.startswith("TrialEnded"))
            next(ended), next(ended)
            before = complete(tmp_path)
            cluster.head_node.kill_gcs_server()
            if is_back:
                cluster.head_node.start_gcs_server()
            process.communicate(timeout=120)
        assert process.returncode != 0
    assert len(before) >= 2

    (tmp_path / "gate").unlink()
    (tmp_path / "gate").touch()  # an open one
    with started(num_cpus=2) as cluster, driver(cluster.address, tmp_path) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    after = complete(tmp_path)
    assert len(after) == TRIALS + 1
    assert after["architecture"].is_unique
    assert after.loc[before.index, before.columns].equals(before)
    assert set(load_trials(url_of(tmp_path))["state"]) == {"COMPLETE", "INTERRUPTED"}

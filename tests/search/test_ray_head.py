"""A Ray cluster whose head is lost in the middle of a run, or started anew; the driver is a process of its own."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from starsearch.errors import StudyError
from starsearch.records import load_trials
from starsearch.search.ray_head import Head, HeadAnswer, ask_head
from tests.search.studies import url_of
from tests.search.workers import Clock

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
TRIALS = 11


@pytest.fixture
def start_cluster(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    started = []

    def start():
        started.append(Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}))
        return started[-1]

    yield start
    for cluster in started:
        cluster.shutdown()


@contextmanager
def driver(address, folder, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.search.ray_driver_process", address, str(folder), str(TRIALS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def complete(folder):
    trials = load_trials(url_of(folder))
    return trials[trials["state"] == "COMPLETE"].set_index("number")


def lose_the_head(folder, start_cluster, *, is_back):
    """What the driver says when its cluster's head is killed in the middle, and what was complete before."""
    os.mkfifo(folder / "gate")  # nobody opens it: two evaluations wait there for ever
    cluster = start_cluster()
    # Not much shorter: Ray takes some seconds to let go of a cluster whose head is lost.
    with driver(cluster.address, folder, RAY_gcs_rpc_server_reconnect_timeout_s="32") as process:
        ended = (line for line in process.stdout if line.startswith("TrialEnded"))
        next(ended), next(ended)
        before = complete(folder)
        cluster.head_node.kill_gcs_server()
        if is_back:
            cluster.head_node.start_gcs_server()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "Check failed" not in said
    assert "RUNNING" not in set(load_trials(url_of(folder))["state"])
    assert len(before) >= 2
    return said, before


def go_on(folder, start_cluster, before):
    (folder / "gate").unlink()
    (folder / "gate").touch()  # an open one
    with driver(start_cluster().address, folder) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    after = complete(folder)
    assert len(after) == TRIALS + 1
    assert after["architecture"].is_unique
    assert after.loc[before.index, before.columns].equals(before)
    assert set(load_trials(url_of(folder))["state"]) == {"COMPLETE", "FAIL"}


@pytest.mark.slow
def test_a_lost_head_ends_the_run_before_ray_ends_the_process_and_a_new_one_goes_on(start_cluster, tmp_path):
    said, before = lose_the_head(tmp_path, start_cluster, is_back=False)
    assert "does not answer. Waiting 24 s" in said
    assert "has not answered for 2" in said
    assert "run the same command again" in said
    go_on(tmp_path, start_cluster, before)


@pytest.mark.slow
def test_a_head_that_was_started_anew_is_told_from_the_one_before(start_cluster, tmp_path):
    said, before = lose_the_head(tmp_path, start_cluster, is_back=True)
    assert "was started anew" in said
    go_on(tmp_path, start_cluster, before)


ONE, ANOTHER = HeadAnswer(cluster="one"), HeadAnswer(cluster="another")


def head_that_says(*answers, clock=time.monotonic):
    said = iter(answers)
    return Head("10.0.0.1:6379", clock=clock, ask=lambda _address: next(said))


def test_a_head_that_comes_back_in_time_is_the_same():
    clock = Clock()
    head = head_that_says(ONE, None, None, ONE, None, None, clock=clock)
    for clock.now, is_there in ((0.0, True), (10.0, False), (54.0, False), (54.5, True), (80.0, False)):
        head.ask()
        assert head.is_there() is is_there
    clock.now = 80.0 + 45.0
    head.ask()
    with pytest.raises(StudyError, match="has not answered for 45 s"):
        head.is_there()


def test_another_head_at_the_same_address_is_another_cluster():
    head = head_that_says(ONE, ONE, ANOTHER)
    head.ask(), head.ask()
    assert head.is_there()
    head.ask()
    with pytest.raises(StudyError, match="was started anew"):
        head.is_there()


@pytest.mark.parametrize("error", [RuntimeError("failed to connect"), ValueError("no cluster id"), TimeoutError()])
def test_whatever_a_question_fails_with_is_no_answer_and_ends_no_thread(monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr("ray._raylet.GcsClient", fail)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ask_head(f"127.0.0.1:{server.getsockname()[1]}") is None


def test_the_first_answer_is_adopted_however_late_it_comes():
    head = head_that_says(None, ONE, ONE, ANOTHER)
    head.ask()
    assert not head.is_there()
    for _ in range(2):
        head.ask()
        assert head.is_there()
    head.ask()
    with pytest.raises(StudyError, match="was started anew"):
        head.is_there()


def test_a_head_that_takes_the_question_and_says_nothing_is_silent_from_then_on():
    clock, looked = Clock(), []

    def ask(_address):  # meanwhile the driver looks
        for clock.now in (3.0, 5.0, 44.0):
            looked.append(head.is_there())
        clock.now = 46.0
        with pytest.raises(StudyError, match="has not answered for 46 s"):
            head.is_there()

    head = Head("10.0.0.1:6379", clock=clock, ask=ask)
    head.ask()
    assert looked == [True, False, False]


def test_a_driver_that_was_away_does_not_take_one_missed_question_for_a_long_silence():
    clock = Clock()
    head = head_that_says(ONE, ONE, None, ONE, clock=clock)
    head.ask()
    assert head.is_there()
    clock.now = 598.0
    head.ask()
    clock.now = 600.0
    head.ask()
    clock.now = 601.0
    assert not head.is_there()
    head.ask()
    assert head.is_there()


def test_a_process_that_was_stopped_asks_again_before_it_gives_the_head_up():
    clock = Clock()

    def ask(_address):
        if clock.now:  # the second question
            return ONE
        clock.now = 600.0  # stopped (SIGSTOP) in the middle of the first
        assert not head.is_there()
        return None

    head = Head("10.0.0.1:6379", clock=clock, ask=ask)
    head.ask()
    clock.now = 602.0
    assert not head.is_there()
    head.ask()
    assert head.is_there()


def test_who_looks_does_not_wait_for_a_silent_head_and_the_thread_ends_with_it():
    answered, asked = threading.Event(), []

    def ask(_address):
        asked.append(threading.current_thread())
        if len(asked) == 2:
            answered.wait()
        return ONE

    head = Head("10.0.0.1:6379", ask=ask)
    head.start()
    assert head.is_there()
    (thread,) = asked
    assert thread is not threading.current_thread()
    assert thread.daemon
    head.close()
    answered.set()
    thread.join(timeout=30)
    assert not thread.is_alive()

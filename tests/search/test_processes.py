import os
import threading
from multiprocessing.connection import wait

import pytest

from starsearch.errors import StudyError
from starsearch.records import load_trials
from starsearch.search.processes import ProcessExecutor
from tests.search.studies import FakeEvaluator, make_job, make_spec, run, url_of
from tests.search.workers import Clock, Worker, follow_away


def run_there(folder, *, does=None, workers=2, trials=6, **options):
    (folder / "notes").mkdir(exist_ok=True)
    evaluator = Worker(str(folder / "notes"), does or {})

    def make(evaluator):
        return ProcessExecutor(evaluator, workers=workers, **options)

    return run(folder, make_spec(trials=trials), evaluator, make_executor=make)


def notes(folder):
    return sorted(path.name for path in (folder / "notes").glob("*-*-*"))


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder in which two processes have evaluated all of the space, and how many threads that left behind."""
    folder, before = tmp_path_factory.mktemp("there"), threading.active_count()
    assert run_there(folder, trials=11).why == "complete"
    return folder, threading.active_count() - before


def test_it_finds_what_this_process_finds_in_several_others(there, tmp_path):
    run(tmp_path, make_spec(trials=11), FakeEvaluator())
    here, elsewhere = (load_trials(url_of(folder)) for folder in (tmp_path, there[0]))
    columns = ["architecture", "top1_percent", "latency_ms", "macs", "state"]
    by_architecture = [t[columns].sort_values("architecture").reset_index(drop=True) for t in (here, elsewhere)]
    assert by_architecture[0].equals(by_architecture[1])
    pids = {path.read_text() for path in (there[0] / "notes").iterdir()}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids


def test_a_worker_that_dies_is_replaced_and_its_candidate_runs_again(tmp_path):
    assert run_there(tmp_path, does={16: "die once"}).why == "complete"
    trials = load_trials(url_of(tmp_path))
    lost = trials[trials["state"] == "FAIL"]
    assert set(lost["reason"]) == {"Its worker process died (SIGKILL)."}
    complete = trials[trials["state"] == "COMPLETE"]
    assert len(complete) == 7
    assert complete["architecture"].is_unique
    assert set(lost["architecture"]) <= set(complete["architecture"])


@pytest.mark.slow
def test_a_candidate_that_kills_every_worker_fails_at_last(tmp_path):
    run_there(tmp_path, does={16: "die"}, trials=11)
    trials = load_trials(url_of(tmp_path))
    killers = trials[trials["architecture_text"].str.contains("embed_dim=16")]
    assert killers.groupby("architecture").size().tolist() == [3] * 4
    assert killers["reason"].str.contains("last of 3 tries").sum() == 4
    assert (trials["state"] == "COMPLETE").sum() == 8


def test_an_error_is_one_failed_trial_whose_log_is_named(tmp_path):
    run_there(tmp_path, does={16: "raise"})
    trials = load_trials(url_of(tmp_path))
    failed = trials[trials["state"] == "FAIL"]
    for number, reason in zip(failed["number"], failed["reason"], strict=True):
        assert reason == f"ValueError: the network is no good (logs/trial-{number}.txt)"
        assert "Traceback" in (tmp_path / "logs" / f"trial-{number}.txt").read_text()


def test_what_no_candidate_can_help_ends_the_study_and_the_trial_runs_again_later(tmp_path):
    with pytest.raises(StudyError, match="The disk is full"):
        run_there(tmp_path, does={32: "stop", 24: "stop", 16: "stop"})
    assert "RUNNING" not in set(load_trials(url_of(tmp_path))["state"])
    assert run_there(tmp_path).why == "complete"


def test_who_takes_too_long_fails(tmp_path):
    (tmp_path / "notes").mkdir()
    os.mkfifo(tmp_path / "notes" / "gate")
    run_there(tmp_path, does={16: "wait"}, trials=11, time_limit_s=2.0)
    trials = load_trials(url_of(tmp_path))
    slow = trials[trials["architecture_text"].str.contains("embed_dim=16")]
    assert slow["reason"].str.contains("longer than the runner's 2 s").all()
    assert (trials["state"] == "COMPLETE").sum() == 8


@pytest.mark.parametrize("away_s", [4.0, 600.0])  # in its own work, and where the database was locked
def test_what_lies_ready_is_heard_by_a_driver_that_was_away_for_longer_than_the_limit(tmp_path, away_s):
    clock = Clock()
    executor = ProcessExecutor(Worker(str(tmp_path)), workers=1, time_limit_s=3.0, clock=clock)

    def until_ready():
        wait([worker.connection for worker in executor._busy.values()])

    try:
        said = follow_away(executor, make_job(), clock, until_ready, away_s=away_s)
    finally:
        executor.close()
    assert [type(one).__name__ for one in said] == ["JobProgressed"] * 3 + ["JobReturned"]


def test_workers_end_with_the_executor_and_no_thread_is_left(there):
    folder, threads = there
    for path in (folder / "notes").iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert threads == 0

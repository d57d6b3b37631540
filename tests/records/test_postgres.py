"""The same record in a real PostgreSQL server."""

import signal
import tempfile
from pathlib import Path

import pytest

from starsearch.errors import StudyError, StudyLeasedError
from starsearch.records import OpenStudy, StudyRecord, hold_lease, load_trials, patience, study_names
from starsearch.search.driver import run_study
from starsearch.search.executor import LocalExecutor
from tests.command_line import processes
from tests.records import postgres
from tests.search.studies import FakeEvaluator, make_spec

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
pytest.importorskip("psycopg", reason="psycopg is not installed")


@pytest.fixture(scope="module")
def server():
    # Not pytest's folders: theirs are closed to other users, and the server may have to be one.
    with tempfile.TemporaryDirectory(prefix="starsearch-pg-") as folder:
        Path(folder).chmod(0o755)
        with postgres.server(Path(folder)) as found:
            yield found


@pytest.fixture
def url(server):
    return server.url


def run(url, spec, evaluator, **options):
    record = StudyRecord.open(url, spec, signature=spec.space.describe())
    try:
        return run_study(spec, record, LocalExecutor(evaluator), **options)
    finally:
        record.close()


def test_a_study_runs_is_interrupted_goes_on_and_is_read(url):
    spec = make_spec(name="whole", trials=11)

    def interrupt(candidate):
        if len(first.asked) == 5:
            raise KeyboardInterrupt

    first = FakeEvaluator(interrupt)
    assert run(url, spec, first).why == "interrupted"
    second = FakeEvaluator()
    assert run(url, spec, second).why == "complete"
    trials = load_trials(url, "whole")
    assert trials["number"].tolist() == list(range(13))
    assert trials["state"].tolist().count("COMPLETE") == 12
    assert trials["reason"].dropna().tolist() == ["interrupted"]
    complete = trials[trials["state"] == "COMPLETE"]
    assert complete["architecture"].is_unique
    assert complete["top1_percent"].notna().all()
    assert "whole" in study_names(url)


def test_two_drivers_are_kept_apart(url):
    spec = make_spec(name="leased")
    one, other = (StudyRecord.open(url, spec, signature=spec.space.describe()) for _ in range(2))
    with hold_lease(one), pytest.raises(StudyLeasedError), hold_lease(other):
        pass
    with hold_lease(other):
        pass
    one.close()
    other.close()


def test_several_studies_share_a_server_and_trials_keep_their_numbers(url):
    for name in ("left", "right"):
        run(url, make_spec(name=name, trials=3), FakeEvaluator())
    assert load_trials(url, "left")["number"].tolist() == load_trials(url, "right")["number"].tolist() == [0, 1, 2, 3]


def test_a_server_that_is_not_there_is_told_without_its_password():
    with pytest.raises(StudyError) as caught:
        OpenStudy.find("postgresql://me:secret@127.0.0.1:1/studies", "any")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def stopping_at_the_third(server):
    evaluator = FakeEvaluator(lambda _: server.stop(signal.SIGINT) if len(evaluator.asked) == 3 else None)
    return evaluator


def run_until_the_server_is_missed(server, spec, evaluator):
    with (
        pytest.warns(UserWarning, match="Waiting"),
        pytest.raises(StudyError, match="server does not answer"),
    ):
        run(server.url, spec, evaluator)


def test_a_server_that_is_restarted_in_the_middle_is_waited_for(server, monkeypatch):
    may_wait = patience.Patience.may_wait
    tries = []

    def start_at_the_second(self, **began):
        tries.append(1)
        if len(tries) == 2:
            server.start()
        return may_wait(self, **began)

    monkeypatch.setattr(patience.Patience, "may_wait", start_at_the_second)
    evaluator = stopping_at_the_third(server)
    with pytest.warns(UserWarning, match="does not answer. Waiting up to 60 s"):
        assert run(server.url, make_spec(name="restarted", trials=6), evaluator).why == "complete"
    assert load_trials(server.url, "restarted")["state"].tolist() == ["COMPLETE"] * 7


def test_a_server_that_stays_away_ends_the_run_which_goes_on_once_it_is_back(server, monkeypatch):
    monkeypatch.setattr(patience, "_AWAY_FOR_S", 0.0)
    evaluator = stopping_at_the_third(server)
    spec = make_spec(name="away", trials=6)
    run_until_the_server_is_missed(server, spec, evaluator)
    server.start()
    left = load_trials(server.url, "away")
    assert left["state"].tolist() == ["COMPLETE"] * 2 + ["RUNNING"]
    again = FakeEvaluator()
    assert run(server.url, spec, again).why == "complete"
    assert again.asked[0] == evaluator.asked[-1]
    assert load_trials(server.url, "away")["state"].tolist() == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 5


def test_an_interrupt_while_the_server_is_away_ends_the_run_which_goes_on_once_it_is_back(server, monkeypatch):
    may_wait = patience.Patience.may_wait
    granted = []

    def interrupt_at_the_second(self, **began):
        granted.append(may_wait(self, **began))
        if len(granted) == 2:
            raise KeyboardInterrupt
        return granted[-1]

    monkeypatch.setattr(patience.Patience, "may_wait", interrupt_at_the_second)
    evaluator = stopping_at_the_third(server)
    spec = make_spec(name="interrupted", trials=6)
    run_until_the_server_is_missed(server, spec, evaluator)
    server.start()
    assert granted[:2] == [True, True]
    assert not any(granted[2:])
    monkeypatch.undo()
    assert run(server.url, spec, FakeEvaluator()).why == "complete"
    assert load_trials(server.url, "interrupted")["state"].tolist() == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 5


def test_processes_that_begin_at_once_in_an_empty_database_make_its_tables_together(server):
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty")
    url, several = server.url.replace("/postgres", "/empty"), 3
    barrier = processes.Barrier(several)
    racers = [processes.Process(target=_begin, args=(url, f"study-{number}", barrier)) for number in range(several)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(300)
    assert [racer.exitcode for racer in racers] == [0] * several
    assert sorted(study_names(url)) == [f"study-{number}" for number in range(several)]


def _begin(url, name, barrier):
    spec = make_spec(name=name)
    barrier.wait(300)
    StudyRecord.open(url, spec, signature=spec.space.describe()).close()

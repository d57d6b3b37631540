"""The same record in a real PostgreSQL server."""

import signal
import tempfile
from pathlib import Path

import pytest

from starsearch.errors import StudyError, StudyLeasedError
from starsearch.records.record import StudyRecord, hold_lease
from starsearch.records.table import load_trials, study_names
from tests.command_line import processes
from tests.records import postgres
from tests.search.studies import FakeEvaluator, make_spec, run

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
    one, other = (StudyRecord.open(url, spec) for _ in range(2))
    with hold_lease(one), pytest.raises(StudyLeasedError), hold_lease(other):
        pass
    with hold_lease(other):
        pass
    one.close()
    other.close()


def test_a_server_that_is_not_there_is_told_without_its_password():
    with pytest.raises(StudyError) as caught:
        StudyRecord.find("postgresql://me:secret@127.0.0.1:1/studies", "any")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_server_that_stays_away_ends_the_run_which_resumes_once_it_is_back(server):
    evaluator = FakeEvaluator(lambda _: server.stop(signal.SIGINT) if len(evaluator.asked) == 3 else None)
    spec = make_spec(name="away", trials=6)
    with pytest.raises(StudyError, match="server does not answer"):
        run(server.url, spec, evaluator)
    server.start()
    left = load_trials(server.url, "away")
    assert left["state"].tolist() == ["COMPLETE"] * 2 + ["RUNNING"]
    again = FakeEvaluator()
    assert run(server.url, spec, again).why == "complete"
    assert again.asked[0] == evaluator.asked[-1]
    assert load_trials(server.url, "away")["state"].tolist() == ["COMPLETE"] * 2 + ["INTERRUPTED"] + ["COMPLETE"] * 5


def test_a_connection_that_a_restart_has_cut_is_made_anew(server):
    def restart(candidate):
        if len(evaluator.asked) == 3:
            server.stop(signal.SIGINT)
            server.start()

    evaluator = FakeEvaluator(restart)
    assert run(server.url, make_spec(name="restarted", trials=6), evaluator).why == "complete"
    assert load_trials(server.url, "restarted")["state"].tolist() == ["COMPLETE"] * 7


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
    StudyRecord.open(url, spec).close()

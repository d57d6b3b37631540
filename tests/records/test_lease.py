import os
import socket
import sqlite3
import subprocess
import sys
import threading
from dataclasses import asdict

import pytest

from starsearch.errors import StudyLeasedError
from starsearch.records import StudyRecord, hold_lease, lease, patience
from starsearch.records.lease import Holder, process_start_time
from tests.search.studies import make_spec, url_of


@pytest.fixture
def record(tmp_path):
    record = StudyRecord.open(url_of(tmp_path), make_spec(), signature={})
    yield record
    record.close()


def held_by(record, **changes):
    values = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_start_time(os.getpid()),
        "token": "another",
        "since": "2026-01-01T00:00:00+00:00",
        "expires": 1000.0,
    }
    record.set_attribute("lease", asdict(Holder(**{**values, **changes})))


def test_a_lease_is_given_back_when_the_driver_ends(record):
    with hold_lease(record):
        assert record.attribute("lease")["pid"] == os.getpid()
        with pytest.raises(StudyLeasedError), hold_lease(record):
            pass
    assert record.attribute("lease") is None
    with hold_lease(record):
        pass


def test_a_live_process_on_this_host_holds_its_lease_however_long_ago_it_was_renewed(record):
    held_by(record)
    told = rf"process {os.getpid()} on .*, since 2026-01-01"
    with pytest.raises(StudyLeasedError, match=told), hold_lease(record, clock=lambda: 9999.0):
        pass


def test_a_dead_process_has_lost_its_lease_at_once(record):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    held_by(record, pid=dead.pid)
    with hold_lease(record, clock=lambda: 0.0):
        pass


def test_a_killed_process_nobody_has_waited_for_is_dead(record):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as killed:
        started = process_start_time(killed.pid)
        held_by(record, pid=killed.pid, process_started=started)
        with pytest.raises(StudyLeasedError), hold_lease(record):
            pass
        killed.kill()
        os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # dead now, and still a zombie
        with hold_lease(record):
            pass


def test_another_process_with_the_same_pid_is_not_the_holder(record):
    held_by(record, process_started=process_start_time(os.getpid()) - 1000)
    with hold_lease(record, clock=lambda: 0.0):
        pass


def test_another_hosts_lease_holds_until_it_expires(record):
    held_by(record, host="elsewhere")
    with pytest.raises(StudyLeasedError, match="on elsewhere"), hold_lease(record, clock=lambda: 999.0):
        pass
    with hold_lease(record, clock=lambda: 1001.0):
        pass


def test_a_driver_that_slept_past_its_lease_goes_on_unless_someone_took_it(record):
    now = [0.0]
    with hold_lease(record, clock=lambda: now[0]) as lease:
        now[0] = 100.0
        lease.check()
        lease.renew()
        now[0] = 200.0
        lease.check()
        now[0] = 1000.0
        lease.check()
        now[0] = 2000.0
        held_by(record, host="elsewhere")
        with pytest.raises(StudyLeasedError, match="has lost the study"):
            lease.check()


def test_a_lease_that_someone_else_took_is_lost_and_left_to_them(record):
    with hold_lease(record) as lease:
        held_by(record, host="elsewhere")
        lease.renew()
        with pytest.raises(StudyLeasedError, match="has lost the study"):
            lease.check()
    assert record.attribute("lease")["host"] == "elsewhere"


@pytest.mark.filterwarnings("ignore:.*Waiting up to 600 s:UserWarning")  # of the renewer, whenever it begins
def test_a_lease_whose_renewer_waits_for_a_locked_database_is_released_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "_RENEWED_EVERY_S", 0.01)
    monkeypatch.setattr(patience, "_TRY_S", 0.01)
    may_wait = patience.Patience.may_wait
    tries = []
    waits = threading.Event()

    def note(self, **began):
        tries.append(1)
        waits.set()
        return may_wait(self, **began) and len(tries) < 50  # that the test ends

    monkeypatch.setattr(patience.Patience, "may_wait", note)
    record = StudyRecord.open(url_of(tmp_path), make_spec(), signature={})
    locking = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    with hold_lease(record):
        locking.execute("BEGIN EXCLUSIVE")
        assert waits.wait(timeout=60)
    locking.close()
    assert len(tries) < 50
    with hold_lease(record):  # it could not be given back, and is over in this process nevertheless
        pass
    record.close()

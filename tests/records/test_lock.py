"""One driver for each study, on this host and on others."""

import socket
import subprocess
import sys
import time

import pytest

from starsearch.errors import StudyLeasedError
from starsearch.records import lock
from starsearch.records.lock import alone, working_driver
from starsearch.records.record import StudyRecord, hold_lease
from starsearch.records.table import load_attributes
from tests.search.studies import make_spec, url_of

HOLD = """
import sys, time
from starsearch.records.record import StudyRecord, hold_lease
with hold_lease(StudyRecord.find(sys.argv[1], "small")):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def record(tmp_path):
    record = StudyRecord.open(url_of(tmp_path), make_spec())
    yield record
    record.close()


def driver_of(record):
    return working_driver(record.url, record.name, load_attributes(record.url, record.name))


def held_elsewhere(record, *, seconds):
    lease = {"holder": "process 7 on elsewhere since noon", "host": "elsewhere", "expires": time.time() + seconds}
    record.set_attribute("lease", lease)


def test_a_study_is_held_until_its_driver_ends(record):
    assert driver_of(record) is None
    with hold_lease(record):
        assert f"on {socket.gethostname()} since 20" in driver_of(record)
        words = r"Another driver works on the study 'small': process \d+"
        with pytest.raises(StudyLeasedError, match=words), hold_lease(record):
            pass
    assert record.attribute("lease") is driver_of(record) is None
    with hold_lease(record):
        pass


def test_a_killed_process_has_lost_its_study_at_once(record):
    with subprocess.Popen([sys.executable, "-c", HOLD, record.url], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert driver_of(record).startswith(f"process {process.pid} on ")
        with pytest.raises(StudyLeasedError, match=f"process {process.pid}"), hold_lease(record):
            pass
        process.kill()
    assert driver_of(record) is None
    with hold_lease(record):
        pass


def test_another_hosts_lease_holds_until_it_expires(record):
    held_elsewhere(record, seconds=60)
    assert driver_of(record) == "process 7 on elsewhere since noon"
    with pytest.raises(StudyLeasedError, match="process 7 on elsewhere"), hold_lease(record):
        pass
    held_elsewhere(record, seconds=-1)
    assert driver_of(record) is None
    with hold_lease(record):
        pass


def test_a_lease_is_renewed_beside_what_the_driver_does(record, monkeypatch):
    monkeypatch.setattr(lock, "_RENEWED_EVERY_S", 0.01)
    with hold_lease(record):
        began = record.attribute("lease")["expires"]
        limit = time.monotonic() + 60
        while record.attribute("lease")["expires"] == began:
            assert time.monotonic() < limit


def test_a_driver_that_slept_past_its_lease_keeps_it_unless_someone_took_it(record, monkeypatch):
    monkeypatch.setattr(lock, "_HOLDS_S", -1.0)
    with hold_lease(record) as lease:
        lease.check()
        held_elsewhere(record, seconds=60)
        with pytest.raises(StudyLeasedError, match="has lost the study 'small'"):
            lease.check()
    assert record.attribute("lease")["host"] == "elsewhere", "it is left to them"


def test_a_folder_is_held_by_one(tmp_path):
    lock = tmp_path / ".lock"
    with alone(lock, "Busy."), pytest.raises(StudyLeasedError, match="Busy"), alone(lock, "Busy."):
        pass

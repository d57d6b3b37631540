import contextlib
import fcntl
import mmap
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

from starsearch.latency.lock import computing, measuring
from tests.command_line import running

DEADLINE_S = 30

HOLDER = """
import sys
from starsearch.latency import lock

with getattr(lock, sys.argv[1])():
    print("inside", flush=True)
    sys.stdin.readline()
print("left", flush=True)
"""

FORKER = """
import os, sys
from starsearch.latency.lock import measuring

with measuring():
    child = os.fork()
    if not child:
        sys.stdin.readline()
        os._exit(0)
print("left", flush=True)
os.waitpid(child, 0)
"""

# Each of two threads owns a byte that says what it does; whoever enters looks at all the others' bytes.
CROWD = """
import mmap, sys, threading
from starsearch.latency import lock

board_file, mode, first_byte, last_round = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open(board_file, "r+b") as file:
    board = mmap.mmap(file.fileno(), 0)

def work(byte):
    rounds = 0
    while rounds < last_round and not board[0]:
        with getattr(lock, mode)():
            board[byte] = ord(mode[0])
            others = bytes(board[1:byte] + board[byte + 1:])
            wrong = others.strip(b"\\0") if mode == "measuring" else b"m" in others
            assert not wrong, (mode, others)
            board[byte] = 0
        rounds += 1
    done.append(rounds)

done = []
threads = [threading.Thread(target=work, args=(first_byte + i,)) for i in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*done)
sys.exit(len(done) != 2)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of this test's own lock."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"starsearch-{os.getuid()}"


def start(script, *arguments):
    return running("-c", script, *arguments, stdin=subprocess.PIPE)


def holder(mode):
    return start(HOLDER, mode)


def says(process):
    assert select.select([process.stdout], [], [], DEADLINE_S)[0], "the process says nothing"
    return process.stdout.readline().strip()


def let_go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def wait_until_queued(folder, process):
    """Until a process stands in the turnstile: it waits for the room, and has said nothing."""
    deadline = time.monotonic() + DEADLINE_S
    with (folder / "turnstile.lock").open("r+b") as turnstile:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(turnstile, fcntl.LOCK_UN)
            assert not select.select([process.stdout], [], [], 0.005)[0], "it did not wait"
    raise AssertionError("nobody came to wait")


def can_enter(enter):
    """Whether another thread of this process gets inside."""
    inside = threading.Event()

    def try_it():
        with enter():
            inside.set()

    threading.Thread(target=try_it, daemon=True).start()
    return inside.wait(DEADLINE_S)


@pytest.mark.parametrize(("first", "second"), [("computing", "measuring"), ("measuring", "computing")])
def test_a_measuring_and_a_computing_process_wait_for_each_other(folder, first, second):
    with holder(first) as inside:
        assert says(inside) == "inside"
        with holder(second) as waiting:
            wait_until_queued(folder, waiting)
            let_go(inside)
            assert says(inside) == "left"
            assert says(waiting) == "inside"


def test_two_processes_compute_at_once():
    with holder("computing") as one, holder("computing") as two:
        assert says(one) == says(two) == "inside"


def test_who_comes_to_compute_waits_behind_a_waiting_measurer(folder):
    with holder("computing") as early:
        assert says(early) == "inside"
        with holder("measuring") as measurer:
            wait_until_queued(folder, measurer)
            with holder("computing") as late:
                let_go(early)
                assert says(measurer) == "inside"
                wait_until_queued(folder, late)
                let_go(measurer)
                assert says(measurer) == "left"
                assert says(late) == "inside"


@pytest.mark.parametrize("mode", ["computing", "measuring"])
def test_a_killed_process_holds_nothing(mode):
    with holder(mode) as process:
        assert says(process) == "inside"
        process.kill()
        process.wait()
        assert can_enter(measuring)


def test_measuring_is_alone_and_not_starved_among_threads_of_many_processes(tmp_path):
    with (tmp_path / "board").open("w+b") as file:
        file.write(bytes(16))
        file.flush()
        board = mmap.mmap(file.fileno(), 0)
    with contextlib.ExitStack() as stack:
        trainers, measurers = (
            [stack.enter_context(start(CROWD, tmp_path / "board", mode, first + 2 * i, rounds)) for i in range(2)]
            for mode, first, rounds in (("computing", 1, 10**9), ("measuring", 5, 100))
        )
        try:
            # The trainers compute without a pause until the measurers are done.
            assert [process.communicate(timeout=DEADLINE_S)[0] for process in measurers] == ["100 100\n"] * 2
        finally:
            board[0] = 1
        computed = [process.communicate(timeout=DEADLINE_S)[0] for process in trainers]
    assert all(process.returncode == 0 for process in trainers + measurers)
    assert all(int(rounds) > 0 for line in computed for rounds in line.split())


def test_a_forked_child_does_not_keep_what_its_parent_left():
    with start(FORKER) as parent:
        assert says(parent) == "left"
        assert can_enter(measuring)
        let_go(parent)


def test_a_thread_may_enter_again_what_it_holds_and_an_error_frees_it():
    with measuring(), measuring(), computing():
        pass
    with contextlib.suppress(KeyboardInterrupt), computing(), computing():
        raise KeyboardInterrupt
    assert can_enter(measuring)


def test_measuring_inside_computing_is_refused_since_it_would_wait_for_itself():
    with computing(), pytest.raises(RuntimeError, match="wait for itself"):
        measuring()
    assert can_enter(measuring)


def test_the_lock_lies_in_the_users_own_temporary_folder_and_comes_back_when_it_is_cleaned(folder):
    for _ in range(2):
        with computing():
            assert {path.name for path in folder.iterdir()} == {"turnstile.lock", "room.lock"}
            assert folder.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_used_is_said_once_and_work_goes_on(folder, caplog):
    folder.touch()
    for _ in range(3):
        with computing(), computing():
            pass
        with measuring():
            pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "without a lock" in caplog.text

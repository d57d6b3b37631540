"""Worker processes go on through signals that their trainer alone is meant to answer, and are missed when killed."""

import multiprocessing
import os
import signal
import subprocess

import pytest
from torch.utils.data import DataLoader, Dataset

from starsearch.data.workers import iterate, outlive_signals
from starsearch.errors import WorkerLostError
from tests.command_line import python


class Numbers(Dataset):
    def __getitem__(self, index):
        return index

    def __len__(self):
        return 40


def loader(**options):
    return DataLoader(Numbers(), batch_size=2, num_workers=1, worker_init_fn=outlive_signals, **options)


def send(name, process):
    """From another process, as a scheduler does: the trainer's own SIGTERM does end a worker."""
    subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)


@pytest.mark.parametrize("name", ["TERM", "INT"])
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="there a worker cannot know who sent a SIGTERM")
def test_a_worker_that_is_signalled_with_its_group_reads_on(name):
    batches = iterate(loader())
    first = next(batches)
    (worker,) = multiprocessing.active_children()
    send(name, worker)
    send(name, worker)
    assert [number for batch in (first, *batches) for number in batch.tolist()] == list(range(40))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_trainer_itself_ends_a_worker(end):
    batches = iterate(loader())
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, end)
    worker.join(timeout=10)
    assert not worker.is_alive()


def test_a_worker_that_was_killed_is_missed_in_words_and_where_a_batch_was_due():
    list(loader())  # a loader that is not ours leaves torch's handler behind
    batches = iterate(loader(prefetch_factor=2))
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    (worker,) = multiprocessing.active_children()
    send("KILL", worker)
    worker.join(timeout=10)  # where torch's handler would raise
    with pytest.raises(WorkerLostError, match=r"reads images was killed .*/dev/shm.*Fewer --workers"):
        list(batches)


LEFT_AT_EXIT = """
import sys
from tests.data.test_processes import loader
batches = iter(loader())
next(batches)
raise RuntimeError("with the workers alive")
"""


def test_workers_that_are_left_hold_up_no_exit():
    done = python("-c", LEFT_AT_EXIT)
    assert done.returncode == 1
    assert "with the workers alive" in done.stderr

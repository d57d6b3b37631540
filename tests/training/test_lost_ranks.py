"""Ranks that are slow to begin are waited for; such as never come, or are lost, are told of in words."""

import multiprocessing
import os
import socket
import time
from datetime import timedelta

import pytest
import torch

from starsearch.errors import EvaluationError
from starsearch.recipe import Recipe
from starsearch.training import Hardware, ranks
from starsearch.training.ranks import Ranks, joined_ranks, telling_of_lost_ranks
from tests.training.test_loop import training


def be_rank(rank, port, patience_s, said, act, folder):
    """What a process does as one of two; `said` is told how it ended."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    ranks.LOST_AFTER = timedelta(seconds=2)
    try:
        with (
            joined_ranks(Hardware(), within=timedelta(seconds=patience_s)) as hardware,
            telling_of_lost_ranks(hardware, last=folder / "last.pt"),
        ):
            act(Ranks(hardware))
        said.put((rank, "done"))
    except EvaluationError as error:
        said.put((rank, str(error)))
    except BaseException as error:
        said.put((rank, f"no words: {error!r}"))


def begin_late(both):
    """The second rank takes twice as long to open its data as a lost one is waited for."""
    if both.rank == 1:
        time.sleep(4)
    assert both.sum(torch.ones(1)).item() == 2
    both.note_step()
    both.gather("a checkpoint")


def stall(both):
    """The second rank hangs in the midst of a training."""
    hardware = Hardware(rank=both.rank, world_size=both.count)
    for progress in training(recipe=Recipe(batch_size=16, epochs=1000, hflip=0), hardware=hardware):
        if both.rank == 1 and progress.epoch == 2:
            time.sleep(8)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(act, folder, *, numbers=(0, 1), patience_s=60):
    context = multiprocessing.get_context("spawn")
    said, port = context.Queue(), free_port()
    started = [context.Process(target=be_rank, args=(n, port, patience_s, said, act, folder)) for n in numbers]
    for process in started:
        process.start()
    found = dict(said.get(timeout=100) for _ in numbers)
    for process in started:
        process.join(timeout=30)
    return found


@pytest.mark.slow
def test_a_rank_that_is_slow_to_open_its_data_is_waited_for(tmp_path):
    assert run_ranks(begin_late, tmp_path) == {0: "done", 1: "done"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "words"), [(False, "Nothing is kept yet; the same command begins anew"), (True, "resumes from it")]
)
def test_a_rank_that_stops_answering_after_the_first_step_is_lost_soon(tmp_path, kept, words):
    if kept:
        (tmp_path / "last.pt").touch()
    found = run_ranks(stall, tmp_path)
    assert "Another of the 2 ranks was lost, or has not answered in time" in found[0]
    assert words in found[0]


@pytest.mark.slow
@pytest.mark.parametrize("alone", [0, 1])
def test_ranks_that_never_meet_say_so(tmp_path, alone):
    (words,) = run_ranks(begin_late, tmp_path, numbers=(alone,), patience_s=2).values()
    assert words.startswith("The 2 ranks have not met at 127.0.0.1:")
    assert "They wait 2 s for each other. Start all of them" in words

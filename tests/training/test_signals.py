"""A training whose whole process group is signalled, as terminals, schedulers and torchrun do, loses nothing."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from starsearch.errors import TrainingStoppedError, WorkerLostError
from starsearch.recipe import Recipe
from starsearch.training import Keeping
from tests.training.imagenet import write_imagenet
from tests.training.test_loop import run

ARCHITECTURE = "starnet:embed_dim=8,depths=1-1-1,mlp_ratio=2,kernel_size=3"


def start(tmp_path, data, *options):
    recipe = tmp_path / "long.yaml"
    recipe.write_text("{epochs: 500, batch_size: 24, crop: random-resized}")
    command = [sys.executable, "-m", "starsearch", "train", ARCHITECTURE, "--data", str(data)]
    command += ["--recipe", str(recipe), "--resolution", "32", "--workers", "2", "--keep-every", "1000"]
    return subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), *options],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process, file):
    deadline = time.monotonic() + 120
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def assert_kept_where_it_was(process, said, last, number):
    """It ended in words, as its shell expects it, and keeps the step of which it told; what is kept."""
    assert process.returncode == 128 + number, said
    assert "Nothing is lost; the same command resumes it." in said
    assert "Traceback" not in said
    kept = torch.load(last, weights_only=True)
    assert f"Stopped in epoch {kept['epoch'] + 1} of 500, after {kept['step']} of its 10 steps" in said
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_keeps_the_epoch_under_way(tmp_path, number):
    """Several times, since it depends on what the workers are at."""
    data, last = write_imagenet(tmp_path / "imagenet"), tmp_path / "out" / "last.pt"
    for _ in range(5):
        last.unlink(missing_ok=True)
        process = start(tmp_path, data)
        wait_for(process, last)
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=60)
        assert_kept_where_it_was(process, said, last, number)


@pytest.mark.slow
def test_ctrl_c_at_the_driver_of_a_cluster_lets_the_ranks_keep_where_they_are(tmp_path):
    data, last = write_imagenet(tmp_path / "imagenet"), tmp_path / "out" / "last.pt"
    (tmp_path / "ray.yaml").write_text("{executor: ray, address: local, resources: {cpu: 1}, workers: 2}")
    process = start(tmp_path, data, "--workers", "0", "--runner", str(tmp_path / "ray.yaml"))
    wait_for(process, last)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=90)
    kept = assert_kept_where_it_was(process, said, last, signal.SIGINT)
    assert len(kept["random"]) == 2
    assert not (tmp_path / "out" / ".stop").exists()


def test_a_worker_that_dies_with_a_stop_asked_for_loses_nothing_else_it_is_an_error(tmp_path, monkeypatch):
    """Between its start and its first line a worker does not outlive signals yet."""

    def lost(*_, **__):
        raise WorkerLostError("a process that reads images was killed")
        yield

    monkeypatch.setattr("starsearch.training.loop.validate", lost)
    for asked, error in ((False, WorkerLostError), (True, TrainingStoppedError)):
        answers = iter([False] * 8)  # one a step; what comes then is of the loss
        keeping = Keeping(last=tmp_path / "a.pt", lasting=True, is_asked_to_stop=partial(next, answers, asked))
        with pytest.raises(error):
            run(recipe=Recipe(batch_size=16, epochs=2, hflip=0), checkpoint=keeping)
        assert (tmp_path / "a.pt").exists() == asked
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 8

"""Several ranks train as one would: in shares that together are the whole, under torchrun and under Ray Train."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from starsearch.api.training import run_training
from starsearch.api.training_job import plan_training
from starsearch.data import open_data
from starsearch.data.batches import RankShare, order_of_images, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.families.network import build_model
from starsearch.progress import follow
from starsearch.training.evaluate import validate
from tests.command_line import python
from tests.training.imagenet import write_imagenet
from tests.training.test_loop import TINY

ARCHITECTURE = "starnet:embed_dim=8,depths=1-1-1,mlp_ratio=2,kernel_size=3"
RECIPE = (
    "{epochs: %d, batch_size: 24, lr: 5.0e-3, crop: random-resized, crop_scale: [0.5, 1.0], random_erasing: 0.1, "
    "mixup: 0.1, ema_decay: 0.9}"
)
NOISE = 10.0  # points of top-1 between seeds: 60 validation images are 1.7 points each


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_shares_of_the_ranks_are_the_batches_of_one(ranks):
    order = order_of_images(50, seed=3, epoch=2)
    shares = [RankShare(rank=rank, ranks=ranks) for rank in range(ranks)]
    for at in (0, 2):
        parts = [share.training_indices(order, 12, start_batch=at).reshape(-1, 12 // ranks) for share in shares]
        assert np.array_equal(np.concatenate(parts, axis=1).reshape(-1), order[12 * at : 48])


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_validate_each_image_once_and_their_hits_add_up(ranks):
    data = open_data("digits")
    torch.manual_seed(0)
    model = build_model(TINY, num_classes=10)

    def judge(**options):
        batches = follow(
            validation_batches(data, Preprocessing(resolution=16, crop_pct=1.0), samples=101, batch_size=32, **options)
        )
        return follow(validate(model, batches))

    whole = judge()
    parts = [judge(share=RankShare(rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert sum(part.num_images for part in parts) == whole.num_images == 101
    hits = sum(part.top1_percent * part.num_images for part in parts)
    assert hits == pytest.approx(whole.top1_percent * whole.num_images)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("data") / "imagenet")


def write_recipe(folder, *, epochs=8):
    recipe = folder / "short.yaml"
    recipe.write_text(RECIPE % epochs)
    return recipe


def arguments(imagenet, folder, **options):
    recipe = write_recipe(folder, **options)
    return ["train", ARCHITECTURE, "--data", str(imagenet), "--recipe", str(recipe), "--resolution", "32",
            "--workers", "1", "--keep-every", "0.5"]  # fmt: skip


def torchrun(*command, **options):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "starsearch"]
    return subprocess.Popen([sys.executable, *launcher, *command], text=True, **options)


def outcome(folder):
    with (folder / "log.csv").open() as file:
        return json.loads((folder / "summary.json").read_text()), list(csv.DictReader(file))


@pytest.fixture(scope="module")
def of_one_rank(imagenet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    job = plan_training(
        ARCHITECTURE,
        data=str(imagenet),
        recipe=str(write_recipe(folder)),
        resolution=32,
        out=folder / "one",
        hardware={"workers": 1},
    )
    with pytest.warns(UserWarning, match="2 of 240 train images of 'imagenet' cannot be read"):
        run_training(job)
    summary, rows = outcome(folder / "one")
    assert summary["best_top1_percent"] > 60
    assert len(summary["unreadable_images"]) == 2
    assert len(rows) == 8
    return summary


@pytest.mark.slow
def test_two_ranks_under_torchrun_reach_what_one_does(imagenet, of_one_rank, tmp_path):
    process = torchrun(*arguments(imagenet, tmp_path), "--out", str(tmp_path / "two"), stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert said.count("epoch 8 of 8") == 1, "one rank speaks for both"
    summary, rows = outcome(tmp_path / "two")
    assert summary["ranks"] == 2
    assert len(summary["unreadable_images"]) == 2
    assert len(rows) == 8
    assert abs(summary["best_top1_percent"] - of_one_rank["best_top1_percent"]) < NOISE
    kept = torch.load(tmp_path / "two" / "last.pt", weights_only=True)
    assert len(kept["random"]) == 2
    assert not torch.equal(kept["random"][0]["torch"], kept["random"][1]["torch"])


@pytest.mark.slow
def test_two_workers_of_ray_train_reach_what_one_rank_does(imagenet, of_one_rank, tmp_path):
    (tmp_path / "ray.yaml").write_text("{executor: ray, address: local, resources: {cpu: 1}, workers: 2}")
    command = [*arguments(imagenet, tmp_path), "--out", str(tmp_path / "ray"), "--runner", str(tmp_path / "ray.yaml")]
    done = python("-m", "starsearch", *command, environment={"RAY_AUTH_MODE": "disabled"})
    assert done.returncode == 0, done.stderr
    summary, rows = outcome(tmp_path / "ray")
    assert summary["ranks"] == 2
    assert len(rows) == 8
    assert abs(summary["best_top1_percent"] - of_one_rank["best_top1_percent"]) < NOISE


@pytest.mark.slow
def test_a_rank_that_is_lost_ends_the_others_within_a_minute_and_leaves_the_checkpoint(imagenet, tmp_path):
    """Two processes without torchrun, which would end the other one itself."""
    command = [sys.executable, "-m", "starsearch", *arguments(imagenet, tmp_path, epochs=200)]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29571", "WORLD_SIZE": "2"}
    last = tmp_path / "lost" / "last.pt"
    ranks = [
        subprocess.Popen(
            [*command, "--out", str(tmp_path / "lost")],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    ranks[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, said = ranks[0].communicate(timeout=90)
    assert time.monotonic() - killed < 60
    ranks[1].communicate()
    assert ranks[0].returncode == 2
    assert "Another of the 2 ranks was lost" in said
    assert "the same command resumes from it" in said
    assert "Traceback" not in said
    kept = torch.load(last, weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in kept["optimisation"]["model"].values())

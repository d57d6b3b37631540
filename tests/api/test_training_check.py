"""The look at the data before a training takes its hours."""

from dataclasses import replace

import pytest
import torch

from starsearch.api.training import check_training_data, run_training
from starsearch.api.training_job import plan_training
from starsearch.errors import EvaluationError
from starsearch.training import Hardware
from starsearch.training.optimisation import Optimisation
from tests.training.imagenet import write_imagenet

NETWORK = "starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_imagenet(folder / "data", train=20, validation=5, broken=1)
    return plan_training(
        NETWORK,
        data=str(folder / "data"),
        recipe="proxy",
        batch_size=16,
        resolution=32,
        out=folder / "out",
        hardware={"workers": 1},
    )


def test_broken_images_and_the_decoding_speed_are_known_before_the_training(job):
    found = check_training_data(job)
    assert found.train.num_images == 80
    assert len(found.train.unreadable) == 1
    assert found.workers_images_per_second > 0


def test_a_training_that_goes_on_and_one_from_memory_are_not_looked_at(job):
    assert check_training_data(replace(job, data="digits")) is None
    (job.folder / "last.pt").parent.mkdir(exist_ok=True)
    (job.folder / "last.pt").touch()
    assert check_training_data(job) is None


def test_a_batch_that_does_not_fit_the_gpu_is_told_before_an_image_is_read(tmp_path, job, monkeypatch):
    def full(self, images, targets):
        assert images.shape == (8, 3, 32, 32), "the largest micro-batch, at the full resolution"
        raise torch.OutOfMemoryError("CUDA out of memory.")  # there is no GPU to fill

    def read(*_args, **_kwargs):
        raise AssertionError("an image is read")

    monkeypatch.setattr(Optimisation, "step", full)
    monkeypatch.setattr(Hardware, "device_type", "cuda")
    monkeypatch.setattr("starsearch.training.loop.training_batches", read)
    monkeypatch.setattr("starsearch.api.training.check_data", read)
    job = replace(job, folder=tmp_path / "full", hardware={"accumulate": 2})
    for begin in (check_training_data, run_training):
        with pytest.raises(
            EvaluationError, match=r"with 8 images at a time\. --accumulate 4 .* batch of 16 by 4 images"
        ):
            begin(job)

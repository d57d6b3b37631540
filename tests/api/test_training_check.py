"""The look at the data before a training takes its hours."""

from dataclasses import replace

import pytest

from starsearch.api import plan_training
from starsearch.api.training_check import check_training_data
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


def test_broken_images_and_both_speeds_are_known_before_the_training(job):
    found = check_training_data(job)
    assert found.train.num_images == 80
    assert len(found.train.unreadable) == 1
    assert found.workers_images_per_second > 0
    assert found.training_images_per_second > 0
    assert check_training_data(job, ranks=1000).workers_needed > found.workers_needed


def test_a_training_that_goes_on_and_one_from_memory_are_not_looked_at(job):
    assert check_training_data(replace(job, data="digits")) is None
    (job.folder / "last.pt").parent.mkdir(exist_ok=True)
    (job.folder / "last.pt").touch()
    assert check_training_data(job) is None

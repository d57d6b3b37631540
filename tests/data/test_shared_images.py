"""Training images that lie among the validation images again."""

from dataclasses import replace

import pytest

from starsearch.data import open_data
from starsearch.data.shared_images import find_shared_images
from tests.data.imagenet_like import jpeg, write_folders, write_original_tars, write_parquet, write_shards


def _one_again(seed, **options):
    return jpeg(seed.replace("validation n01440764 1", "train n01440764 1"), **options)


@pytest.mark.parametrize("write", [write_folders, write_original_tars, write_shards, write_parquet])
def test_an_image_of_both_splits_is_found_in_every_form(tmp_path, write, monkeypatch):
    monkeypatch.setattr("tests.data.imagenet_like.jpeg", _one_again)
    data = open_data(str(write(tmp_path / "imagenet")))
    found = find_shared_images(data)
    ((validation, training),) = found.names
    places = {data.validation.names[index]: index for index in range(12)}
    others = {data.train.names[index]: index for index in range(18)}
    assert data.validation.read(places[validation]).tobytes() == data.train.read(others[training]).tobytes()
    assert (found.compared, found.among, found.is_sample) == (12, 18, False)
    assert "1 of the 12 validation images (8.3%) are also among the training images, byte" in found.in_words()


def test_images_that_a_library_opens_are_compared_by_their_pixels():
    digits = open_data("digits")
    assert find_shared_images(digits).names == ()
    assert len(find_shared_images(replace(digits, validation=digits.train)).names) == 1257


@pytest.mark.parametrize("write", [write_folders, write_parquet])
def test_reading_is_bounded_and_what_was_not_compared_is_not_counted(tmp_path, write, monkeypatch):
    monkeypatch.setattr("tests.data.imagenet_like.jpeg", _one_again)
    monkeypatch.setattr("starsearch.data.shared_images._MOST_BYTES", 1)
    found = find_shared_images(open_data(str(write(tmp_path / "imagenet"))))
    assert found.names == ()
    assert found.compared < 12
    assert found.is_sample

"""The validation images where there are no training images, or none that can be listed."""

import shutil

import pytest

from starsearch.data import open_data, open_validation
from starsearch.data.sources.tars import TRAIN
from starsearch.errors import DataError
from tests.data.imagenet_like import SYNSETS, write_folders, write_original_tars, write_parquet, write_shards


def test_validation_needs_no_training_images(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    (root / TRAIN).unlink()
    found = open_validation(str(root))
    assert (found.name, found.classes, len(found.validation)) == ("imagenet", SYNSETS, 12)
    folders = write_folders(tmp_path / "folders")
    shutil.rmtree(folders / "train")
    for place in (folders, folders / "val"):
        assert open_validation(str(place)).classes == SYNSETS
        assert len(open_validation(str(place)).validation) == 12


@pytest.mark.parametrize("write", [write_shards, write_parquet])
def test_validation_takes_the_names_of_its_numbered_classes_from_the_training_images(tmp_path, write):
    root = write(tmp_path / "imagenet", **({"names": None} if write is write_parquet else {}))
    found = open_validation(str(root))
    assert found.classes == open_data(str(root)).classes == SYNSETS
    assert not found.validation.numbered
    for file in root.rglob("*train-0*"):
        file.unlink()
    alone = open_validation(str(root))
    assert (alone.classes, alone.validation.numbered) == (("0", "1", "2"), True)
    assert alone.validation.targets.tolist() == found.validation.targets.tolist()


def test_validation_does_without_training_images_that_cannot_be_listed(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    (root / "imagenet1k-train-0001.tar").write_bytes(b"")
    assert open_validation(str(root)).validation.numbered


def test_validation_refuses_a_folder_of_nothing_with_the_forms(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"'x' does not hold .*holds nothing.*Parquet"):
        open_validation(str(tmp_path / "x"))
    with pytest.raises(DataError, match=r"'nowhere' names no data set"):
        open_validation("nowhere")

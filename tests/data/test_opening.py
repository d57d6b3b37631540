import shutil

import numpy as np
import pytest

from starsearch.data import open_data
from starsearch.errors import DataError
from tests.data.pictures import pack, write_pictures


def test_digits_are_split_evenly_in_every_class_and_always_alike():
    data = open_data("digits")
    assert data.classes == tuple("0123456789")
    assert (data.num_train, data.num_validation) == (1257, 540)
    counts = np.bincount(data.validation.targets)
    assert counts.max() - counts.min() <= 3
    assert data.train.read(0).size == (8, 8)
    assert data.train.read(0).mode == "RGB"
    assert open_data("digits").fingerprint == data.fingerprint


def test_a_folder_is_known_by_its_name_and_its_classes_are_its_folders(folder):
    data = open_data(str(folder))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert (data.num_train, data.num_validation) == (12, 6)
    assert data.train.targets.tolist() == [0] * 6 + [1] * 6
    assert data.train.read(11).size == (20, 16)


def test_val_is_another_name_of_validation(folder):
    (folder / "validation").rename(folder / "val")
    assert open_data(str(folder)).num_validation == 6


def test_tars_hold_the_same_data_set_as_their_folders(folder, tmp_path):
    tars = tmp_path / "tars"
    tars.mkdir()
    for split in ("train", "validation"):
        pack(folder / split, tars / f"{split}.tar")
    of_tars, of_folder = open_data(str(tars)), open_data(str(folder))
    assert of_tars.classes == of_folder.classes
    assert of_tars.train.targets.tolist() == of_folder.train.targets.tolist()
    assert of_tars.fingerprint == of_folder.fingerprint
    for index in range(12):
        assert of_tars.train.read(index).tobytes() == of_folder.train.read(index).tobytes()


def test_the_fingerprint_does_not_know_where_the_data_lies(folder, tmp_path):
    before = open_data(str(folder)).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere" / "other")
    assert open_data(str(tmp_path / "elsewhere" / "other")).fingerprint == before


@pytest.mark.parametrize("change", ["an image more", "an image less", "an image larger", "a class renamed"])
def test_the_fingerprint_changes_with_the_data(folder, change):
    before = open_data(str(folder)).fingerprint
    image = folder / "train" / "cat" / "000.png"
    if change == "an image more":
        shutil.copy(image, image.with_name("more.png"))
    elif change == "an image less":
        image.unlink()
    elif change == "an image larger":
        image.write_bytes(image.read_bytes() + b"\0")
    else:
        for split in ("train", "validation"):
            (folder / split / "cat").rename(folder / split / "lion")
    assert open_data(str(folder)).fingerprint != before


def test_a_missing_folder_is_refused_with_the_forms_that_data_may_have():
    with pytest.raises(DataError, match=r"'no/such/folder' names no data set.*train/ and validation/.*train\.tar"):
        open_data("no/such/folder")


def test_a_misspelt_name_is_corrected():
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        open_data("digit")


def test_a_file_is_no_data_set(tmp_path):
    file = tmp_path / "images.zip"
    file.touch()
    with pytest.raises(DataError, match="is a file"):
        open_data(str(file))


def test_a_folder_without_splits_is_refused_with_what_it_holds(tmp_path):
    write_pictures(tmp_path / "pets", {"cat": 1})
    with pytest.raises(DataError, match=r"'pets' does not hold .*holds cat"):
        open_data(str(tmp_path / "pets"))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_class_folder_is_named(folder, split):
    (folder / split / "bird").mkdir()
    with pytest.raises(DataError, match=f"pets/{split}/: 'bird'"):
        open_data(str(folder))


def test_classes_that_differ_are_named_on_both_sides(folder):
    (folder / "validation" / "dog").rename(folder / "validation" / "fox")
    with pytest.raises(DataError, match="validation lacks 'dog'; training lacks 'fox'"):
        open_data(str(folder))


def test_a_data_set_without_images_is_refused(folder):
    for image in (folder / "validation").rglob("*.png"):
        image.unlink()
    with pytest.raises(DataError, match="no images in the class folders of pets/validation/"):
        open_data(str(folder))


def test_images_beside_the_class_folders_are_refused(folder):
    shutil.copy(folder / "train" / "cat" / "000.png", folder / "train" / "stray.png")
    with pytest.raises(DataError, match=r"outside of class folders in pets/train/: 'stray\.png'"):
        open_data(str(folder))


def test_one_class_is_none(tmp_path):
    for split in ("train", "validation"):
        write_pictures(tmp_path / "pets" / split, {"cat": 2})
    with pytest.raises(DataError, match="two classes or more; 'pets' has only 'cat'"):
        open_data(str(tmp_path / "pets"))


@pytest.mark.parametrize("content", [b"", b"this is no tar"])
def test_a_damaged_tar_is_refused(tmp_path, content):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tar"):
        open_data(str(tmp_path))


def test_an_unknown_timm_name_is_refused_with_the_librarys_own_words():
    with pytest.raises(DataError, match=r"'torch/cifar99' \(train\): Unknown torchvision dataset cifar99"):
        open_data("torch/cifar99")


def test_torchvisions_data_sets_are_read_through_timm(folder):
    data = open_data(f"torch/folder@{folder}")
    assert data.classes == ("cat", "dog")
    assert (data.num_train, data.num_validation) == (12, 6)
    assert data.train.read(0).tobytes() == open_data(str(folder)).train.read(0).tobytes()

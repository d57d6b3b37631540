"""Splits that number their classes differently are matched by name, where the names tell them apart."""

import shutil
import tarfile

import pytest
from torchvision.datasets import ImageFolder

from starsearch.data import open_data, open_validation
from starsearch.errors import DataError
from tests.data.imagenet_like import SYNSETS, add_member, content_of, jpeg, write_parquet


def test_classes_without_names_are_numbers(tmp_path):
    root = str(write_parquet(tmp_path / "parquet", names=None, paths=False))
    assert open_data(root).classes == open_validation(root).classes == ("0", "1", "2")
    assert open_validation(root).validation.numbered


def test_parquet_whose_splits_number_their_classes_differently_is_matched_by_name(tmp_path):
    names = ("tench", "tabby", "banana")
    other = ("banana", "tench", "tabby")
    root = write_parquet(tmp_path / "imagenet", folder=".", names=names)
    reordered = write_parquet(tmp_path / "reordered", folder=".", names=other)
    truth = content_of(open_data(str(reordered)))[1]  # both splits in the other order: nothing to be matched
    for file in reordered.glob("validation-*"):
        shutil.copy(file, root)
    data = open_data(str(root))
    assert data.classes == names
    assert content_of(data)[1] == truth


def test_shards_whose_splits_number_their_classes_differently_are_matched_by_name(tmp_path):
    for split, numbers in (("train", (0, 1, 2)), ("validation", (2, 0, 1))):
        with tarfile.open(tmp_path / f"imagenet1k-{split}-0000.tar", "w") as tar:
            for synset, number in zip(SYNSETS, numbers, strict=True):
                add_member(tar, f"{synset}_1.cls", str(number).encode())
                add_member(tar, f"{synset}_1.jpg", jpeg(synset))
    data = open_data(str(tmp_path))
    assert data.classes == SYNSETS
    training, validating = content_of(data)
    assert validating == training


def test_a_librarys_splits_that_number_their_classes_differently_are_matched_by_name(folder, monkeypatch):
    class InReverse(ImageFolder):  # a library whose validation images count from the last class
        def find_classes(self, directory):
            names = sorted(super().find_classes(directory)[0], reverse=True)
            return names, {name: number for number, name in enumerate(names)}

    plain = open_data(str(folder))
    kinds = {"train": ImageFolder, "validation": InReverse}
    monkeypatch.setattr("starsearch.data.sources.named._create", lambda _, __, split: kinds[split](folder / split))
    data = open_data("torch/pets")
    assert data.classes == plain.classes == ("cat", "dog")
    assert content_of(data) == content_of(plain)


def test_a_split_of_fewer_classes_is_refused_also_by_number(tmp_path):
    root = write_parquet(tmp_path / "parquet", names=None, paths=False, validation=(4, 4, 0))
    with pytest.raises(DataError, match="different classes: validation lacks '2'"):
        open_data(str(root))

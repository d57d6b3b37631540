"""ImageNet as folders, original tars, WebDataset shards and Parquet files is one and the same data set."""

import io
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from starsearch.data import open_data
from starsearch.errors import DataError
from tests.data.imagenet_like import (
    SYNSETS,
    content_of,
    images,
    jpeg,
    write_folders,
    write_original_tars,
    write_parquet,
    write_shards,
)

FORMS = {
    "folders": write_folders,
    "original tars": write_original_tars,
    "shards": write_shards,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_images_that_were_written_with_their_classes(tmp_path, form):
    data = open_data(str(FORMS[form](tmp_path / "imagenet")))
    assert data.name == "imagenet"
    assert data.classes == SYNSETS
    written = [
        sorted(
            (SYNSETS[target], Image.open(io.BytesIO(content)).convert("RGB").tobytes())
            for _, target, content in images(split, counts)
        )
        for split, counts in (("train", (5, 6, 7)), ("validation", (4, 4, 4)))
    ]
    assert content_of(data) == written


@pytest.mark.parametrize("form", FORMS)
def test_reading_goes_on_in_other_processes_and_after_pickling(tmp_path, form):
    train = open_data(str(FORMS[form](tmp_path / "imagenet"))).train
    here = [train.read(index).tobytes() for index in range(len(train))]
    loader = DataLoader(_Pixels(train.read, len(train)), batch_size=None, num_workers=2)
    assert list(loader) == here
    read, name = pickle.loads(pickle.dumps((train.read, train.names)))
    assert read(7).tobytes() == train.read(7).tobytes()
    assert name[7] == train.names[7]


@dataclass
class _Pixels(Dataset):
    read: Callable
    length: int

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.read(index).tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_fingerprint_is_the_forms_own_and_does_not_know_where_it_lies(tmp_path, form):
    first = open_data(str(FORMS[form](tmp_path / "imagenet")))
    shutil.copytree(tmp_path / "imagenet", tmp_path / "elsewhere" / "other")
    assert open_data(str(tmp_path / "elsewhere" / "other")).fingerprint == first.fingerprint
    other = open_data(str(FORMS[form](tmp_path / "more", train=(5, 6, 8))))
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_a_broken_image_is_an_error_of_that_image_alone(tmp_path, form, monkeypatch):
    monkeypatch.setattr("tests.data.imagenet_like.jpeg", _broken_third)
    data = open_data(str(FORMS[form](tmp_path / "imagenet")))
    broken = []
    for index in range(len(data.train)):
        try:
            data.train.read(index)
        except OSError:
            broken.append(data.train.names[index])
    assert len(broken) == 3
    assert all("_3" in name for name in broken)


def _broken_third(seed, **options):
    content = jpeg(seed, **options)
    return content[: len(content) // 2] if str(seed).endswith(" 3") else content


def test_a_thousand_class_folders_come_in_timms_order(tmp_path):
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo().label_names()
    content = jpeg("small", size=(8, 8))
    for folder in ("train", "val"):
        for synset in reversed(synsets):
            place = tmp_path / "imagenet" / folder / synset
            place.mkdir(parents=True)
            (place / "a.JPEG").write_bytes(content)
    data = open_data(str(tmp_path / "imagenet"))
    assert data.classes == tuple(synsets)
    assert data.validation.targets.tolist() == list(range(1000))


def test_a_folder_with_one_split_only_is_refused_with_the_forms(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    for shard in root.glob("*-validation-*"):
        shard.unlink()
    with pytest.raises(DataError, match=r"'imagenet' does not hold .*it holds imagenet1k-train-0000\.tar.*WebDataset"):
        open_data(str(root))

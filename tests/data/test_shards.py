"""WebDataset shards: where they say the class, where they lie, and what breaks their rules."""

import shutil
import tarfile

import numpy as np
import pytest

from starsearch.data import open_data
from starsearch.errors import DataError
from tests.data.imagenet_like import SYNSETS, add_member, content_of, jpeg, write_shards
from tests.data.pictures import LFS_POINTER


def test_an_index_that_cannot_be_kept_is_made_each_time(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("numpy.savez", refuse)
    root = write_shards(tmp_path / "imagenet")
    assert open_data(str(root)).num_train == open_data(str(root)).num_train == 18
    assert not list(root.glob("starsearch-*"))


@pytest.mark.parametrize("target", ["cls", "json"])
def test_shards_say_classes_in_cls_or_json(tmp_path, target):
    data = open_data(str(write_shards(tmp_path / "imagenet", target=target)))
    assert data.classes == SYNSETS
    assert np.bincount(data.train.targets).tolist() == [5, 6, 7]
    assert data.train.names[0] == "n01440764_0.jpg"


def test_what_cls_says_stands_above_json(tmp_path):
    root = write_shards(tmp_path / "imagenet", shards=1)
    with tarfile.open(root / "imagenet1k-train-0000.tar", "w") as tar:
        for number in range(3):
            said = {"a": str(number).encode(), "b": b'{"label": 7}'}
            order = ("a", "b") if number else ("b", "a")
            for which in order:
                add_member(tar, f"./{number}.{'cls' if which == 'a' else 'json'}", said[which])
            add_member(tar, f"./{number}.png", jpeg(number))
    assert open_data(str(root)).train.targets.tolist() == [0, 1, 2]


def test_shards_may_lie_in_folders_of_the_splits(tmp_path):
    flat = write_shards(tmp_path / "flat")
    for split, folder in (("train", "train"), ("validation", "val")):
        place = tmp_path / "nested" / folder
        place.mkdir(parents=True)
        for number, tar in enumerate(sorted(flat.glob(f"*-{split}-*.tar"))):
            shutil.copy(tar, place / f"{number:05}.tar")
    assert content_of(open_data(str(tmp_path / "nested"))) == content_of(open_data(str(flat)))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.jpg": b"x"}, r"a in imagenet/imagenet1k-train-0000\.tar has no class: neither a\.cls nor"),
        ({"a.jpg": b"x", "a.json": b'{"width": 3}'}, "a in imagenet/.* has no class"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, r"a\.cls in imagenet/.*as a number from 0; it says b'cat'"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "as a number from 0; it says b'-1'"),
        ({"a.jpg": b"x", "a.json": b"{"}, "a in imagenet/.* has no class"),
        ({"a.jpg": b"x", "a.json": b'{"label": "tench"}'}, "a in imagenet/.* has no class"),
        ({"a.seg.png": b"x", "a.cls": b"0"}, r"a\.seg\.png in imagenet/.* a\.jpg \(or \.png …\) is missing"),
        ({"readme.txt": b"x"}, r"no images in the shards of 'imagenet' \(imagenet1k-train-0000\.tar"),
    ],
)
def test_a_shard_that_breaks_the_rules_is_named(tmp_path, members, words):
    root = write_shards(tmp_path / "imagenet", shards=1)
    with tarfile.open(root / "imagenet1k-train-0000.tar", "w") as tar:
        for name, content in members.items():
            add_member(tar, name, content)
    with pytest.raises(DataError, match=words):
        open_data(str(root))


@pytest.mark.parametrize("content", ["cut off", "compressed", "empty", "a pointer of Git LFS"])
def test_a_damaged_shard_is_named(tmp_path, content):
    import gzip

    root = write_shards(tmp_path / "imagenet")
    shard = root / "imagenet1k-train-0001.tar"
    whole = shard.read_bytes()
    contents = {
        "cut off": whole[: len(whole) // 2],
        "compressed": gzip.compress(whole),
        "empty": b"",
        "a pointer of Git LFS": LFS_POINTER,
    }
    shard.write_bytes(contents[content])
    with pytest.raises(DataError, match=r"imagenet/imagenet1k-train-0001\.tar cannot be read as an uncomp") as refused:
        open_data(str(root))
    assert ("a pointer of Git LFS" in str(refused.value)) == (content == "a pointer of Git LFS")


def test_a_shard_that_is_a_link_to_nowhere_is_named(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    (root / "imagenet1k-train-0002.tar").symlink_to("nowhere.tar")
    with pytest.raises(DataError, match=r"Links that lead nowhere: 'imagenet1k-train-0002\.tar'"):
        open_data(str(root))

"""Packs against the data sets they are made of."""

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from starsearch.api.run import open_dataset
from starsearch.data import open_data
from starsearch.data.batches import training_batches, validation_batches
from starsearch.data.memory import decode
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.sources import packed
from starsearch.errors import DataError
from starsearch.progress import follow
from starsearch.recipe import Recipe
from starsearch.study.study_file import load_specs
from tests.data.pictures import write_pictures
from tests.training.imagenet import write_imagenet

RECIPE = Recipe(batch_size=8, crop="pad")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of 100 + 12 images of mixed sizes, the 13th unreadable."""
    root = write_imagenet(tmp_path_factory.mktemp("data") / "photos", train=25, validation=3, broken=0)
    file = sorted((root / "train").rglob("*.JPEG"))[12]
    file.write_bytes(file.read_bytes()[:100])
    return root


def write(source, file, resolution=32):
    with pytest.warns(UserWarning, match="1 of 100 train images of 'photos' cannot be read"):
        return follow(packed.pack(open_data(str(source)), file, resolution=resolution, workers=0))


@pytest.fixture(scope="module")
def pack(source, tmp_path_factory):
    file = tmp_path_factory.mktemp("packs") / "photos.pack"
    assert write(source, file) == [99, 12]
    return file


def batches_of(data, resolution, recipe=RECIPE):
    training = follow(training_batches(data, recipe, resolution=resolution, samples=None, seed=0))
    preprocessing = Preprocessing(resolution=resolution, crop_pct=1.0)
    return [*training.begin(1)], [*follow(validation_batches(data, preprocessing, batch_size=5))]


def test_a_pack_trains_on_the_images_of_its_source(source, pack):
    ours = open_data(str(pack))
    with pytest.warns(UserWarning, match="cannot be read"):
        expected = batches_of(data := open_data(str(source)), 32)
    for mine, theirs in zip(batches_of(ours, 32), expected, strict=True):
        for (images, targets), (others, labels) in zip(mine, theirs, strict=True):
            assert torch.equal(images, others)
            assert torch.equal(targets, labels)
    assert ours.classes == data.classes
    assert len(set(data.train.names) - set(ours.train.names)) == 1
    assert np.array_equal(np.asarray(ours.validation.read(3)), ours.validation.pixels()[3])


def test_at_a_lower_resolution_its_images_are_resized_as_pillow_resizes_them(pack):
    data = open_data(str(pack))
    images, _ = zip(*batches_of(data, 16)[1], strict=True)
    mean, std = torch.tensor(data.mean).view(3, 1, 1), torch.tensor(data.std).view(3, 1, 1)
    for index, image in enumerate(torch.cat(images)):
        picture = data.validation.read(index).resize((16, 16), Image.Resampling.BICUBIC)
        assert np.abs((255 * (image * std + mean)).permute(1, 2, 0).numpy() - np.asarray(picture)).max() < 1.6
    crops, _ = batches_of(data, 16, Recipe(batch_size=8, crop="random-resized"))
    assert crops[0][0].shape == (8, 3, 16, 16)
    with pytest.raises(DataError, match="packed as squares of 32 px; 48 px are asked for"):
        batches_of(data, 48)


def test_a_pack_that_was_cut_off_is_refused_and_goes_on_to_the_same_bytes(source, pack, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_BATCH", 10)
    monkeypatch.setattr(packed, "_SAY_EVERY_S", 0.0)
    file = tmp_path / "cut.pack"
    steps = packed.pack(open_data(str(source)), file, resolution=32, workers=0)
    for _ in range(4):
        next(steps)
    steps.close()
    with file.open("ab") as stream:
        stream.write(b"what was not yet said to be there")
    with pytest.raises(DataError, match=r"not finished: it was cut off after [34]0 images"):
        open_data(str(file))
    follow(packed.pack(open_data(str(source)), file, resolution=32, workers=0))
    assert file.read_bytes()[packed._PREAMBLE :] == pack.read_bytes()[packed._PREAMBLE :]
    assert follow(packed.pack(open_data(str(source)), file, resolution=32)) == [99, 12], "it is there"


def test_a_mapped_pack_takes_no_room_among_the_decoded_images_that_are_kept(pack):
    data = open_data(str(pack), cache_limit_bytes=1)
    splits = (data.train, data.validation)
    first, again = (
        [follow(decode(data, split, np.arange(len(split)), resolution=32)) for split in splits] for _ in range(2)
    )
    assert [id(images) for images in first] == [id(images) for images in again]


def test_a_part_of_a_pack_that_is_too_large_to_be_copied_is_the_same_from_the_mapped_file(pack, tmp_path):
    def batches(file, limit):
        data = open_data(str(file), cache_limit_bytes=limit)
        found = follow(training_batches(data, RECIPE, resolution=32, samples=40, seed=0))
        return found.images, [*found.begin(1)]

    (copied, expected), (mapped, given) = batches(pack, 2**20), batches(shutil.copy(pack, tmp_path), 1)
    assert (len(copied), len(mapped)) == (40, 99)
    for (images, targets), (others, labels) in zip(given, expected, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(targets, labels)


def test_a_pack_made_again_under_its_name_is_read_anew_and_never_as_the_first(tmp_path):
    opened = []
    for split in ("train", "val"):
        write_pictures(tmp_path / "photos" / split, {"a": 2, "b": 2})
    for brightness in (10, 200):
        for picture in (tmp_path / "photos").rglob("*.png"):
            Image.new("RGB", (8, 8), (brightness,) * 3).save(picture)
        file = tmp_path / "photos.pack"
        file.unlink(missing_ok=True)
        follow(packed.pack(open_data(str(tmp_path / "photos")), file, resolution=8, workers=0))
        opened.append(open_data(str(file)))
        images = follow(decode(opened[-1], opened[-1].train, np.arange(4), resolution=8))
        assert set(images.pixels.flatten().tolist()) == {brightness}
    assert opened[0].fingerprint == opened[1].fingerprint, "or the test tells nothing"
    packed._mapped.cache_clear()  # as in another process
    with pytest.raises(DataError, match="is not the one that was opened"):
        opened[0].train.read(0)


def test_a_copy_on_another_node_is_the_pack_that_was_opened_and_none_is_refused_in_words(pack, tmp_path):
    file = tmp_path / pack.name
    shutil.copyfile(pack, file)
    data = open_data(str(file))
    sent, expected = pickle.dumps(data.train), np.asarray(data.train.read(5))
    file.unlink()
    packed._mapped.cache_clear()  # as in another process
    with pytest.raises(DataError, match=r"photos\.pack cannot be read any more \(.*No such file"):
        pickle.loads(sent).read(5)
    file.write_bytes(pack.read_bytes()[:-200_000])
    with pytest.raises(DataError, match="cannot be read any more"):
        pickle.loads(sent).read(5)
    shutil.copyfile(pack, file)
    assert np.array_equal(np.asarray(pickle.loads(sent).read(5)), expected)


def changed(pack, folder, *, at=None, **about):
    """A copy of a pack that says something else of itself, or has a byte changed."""
    file = folder / "changed.pack"
    content = bytearray(pack.read_bytes())
    said = json.loads(content[: packed._PREAMBLE]) | about
    content[: packed._PREAMBLE] = json.dumps(said).encode().ljust(packed._PREAMBLE)
    if at is not None:
        content[packed._PREAMBLE + at] ^= 255
    file.write_bytes(content)
    return file


def test_a_pack_is_of_squares(pack):
    with pytest.raises(DataError, match="a pack has squares alone"):
        batches_of(data := open_data(str(pack)), "16x32")
    with pytest.raises(DataError, match="packed as squares of 32 px; 16x32 px are asked for"):
        follow(validation_batches(data, Preprocessing(resolution="16x32", crop_pct=0.875), batch_size=5, keep=False))


@pytest.mark.parametrize(
    ("searched", "said", "asked"),
    [
        ([32, 64], ["fidelities=[{resolution: 32, epochs: 9}]"], None),
        (["32x64"], ["fidelities=[{resolution: 16x32}]"], "16x32"),
        ([32, "32x64", 64], ["fidelities=[{resolution: 32}]"], "16x32"),  # half the sides of the deployed networks
        ([64, 128], ["fidelities=[{resolution: 32}]"], "64"),
        (
            [64],
            ["fidelities=[{resolution: 32, epochs: 9}]", "search.halving.rungs=[{epochs: 2, resolution: 40}]"],
            "40",
        ),
    ],
)
def test_a_study_that_some_candidate_cannot_be_trained_for_is_refused_as_it_begins(pack, searched, said, asked):
    space = {"dimensions": {"embed_dim": [16, 24]}, "resolution": 64 if 64 in searched else searched[0]}
    if len(searched) > 1:
        space["dimensions"]["resolution"] = searched
    specs = load_specs(space, data=str(pack), settings=[*said, "recipe.batch_size=16"])
    if asked is None:
        open_dataset(specs)
    else:
        with pytest.raises(DataError, match=f"packed as squares of 32 px; {asked} px are asked for"):
            open_dataset(specs)


def test_what_is_no_pack_of_this_source_is_refused_in_words(source, pack, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="is of version 7, not 1: `starsearch data pack photos --resolution 32"):
        open_data(str(changed(pack, tmp_path, **{"starsearch pack": 7})))
    with pytest.raises(
        DataError, match=re.escape("is damaged (of 64 images that were checked 1 differ, first n01440764/")
    ):
        open_data(str(changed(pack, tmp_path, at=0)))
    (tmp_path / "cut.pack").write_bytes(pack.read_bytes()[:-1000])
    with pytest.raises(DataError, match="is damaged"):
        open_data(str(tmp_path / "cut.pack"))
    with pytest.raises(DataError, match="its source has changed: fingerprint abc there"):
        follow(packed.pack(open_data(str(source)), changed(pack, tmp_path, fingerprint="abc"), resolution=32))
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(DataError, match="is there and no pack"):
        follow(packed.pack(open_data(str(source)), tmp_path / "notes.txt", resolution=32))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 100_000))
    with pytest.raises(DataError, match=r"takes 0\.34 MB|takes 0\.00 GB more"):
        follow(packed.pack(open_data(str(source)), tmp_path / "new.pack", resolution=32))

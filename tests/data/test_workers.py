import dataclasses
import functools
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from timm.utils import random_seed

from starsearch.data import open_data
from starsearch.data.augmentation import image_augmentation
from starsearch.data.batches import RankShare, order_of_images, training_batches, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.data.unreadable import read_or_note
from starsearch.data.workers import Samples
from starsearch.errors import DataError
from starsearch.progress import follow
from starsearch.recipe import Recipe
from tests.data.pictures import write_pictures

RECIPE = Recipe(batch_size=8, crop="random-resized", auto_augment="rand-m9-mstd0.5-inc1", random_erasing=0.0)


@pytest.fixture
def many(tmp_path):
    """The folder of a data set of 240 + 8 pictures, larger than they are trained at."""
    write_pictures(tmp_path / "many" / "train", {"a": 120, "b": 120})
    write_pictures(tmp_path / "many" / "val", {"a": 4, "b": 4})
    return tmp_path / "many"


def break_files(folder, *names):
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])


def batches_of(folder, **share):
    return follow(
        training_batches(open_data(str(folder)), RECIPE, resolution=8, samples=None, seed=5, share=RankShare(**share))
    )


def same(one, other):
    return all(torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True))


def test_neither_the_number_of_processes_nor_the_place_of_the_beginning_matters(many):
    whole = [*batches_of(many, workers=0).begin(3)]
    assert len(whole) == 30
    assert same(whole, [*batches_of(many, workers=2).begin(3)])
    assert same(whole[20:], [*batches_of(many, workers=1).begin(3, start_batch=20)])
    assert [*batches_of(many, workers=0).begin(3, start_batch=30)] == []
    assert not same(whole, [*batches_of(many, workers=0).begin(4)])


def test_decoding_in_the_trainings_own_process_leaves_its_random_states_alone(many):
    drawn = []
    for passes in (0, 1):
        random_seed(0)
        for _ in range(passes):
            next(batches_of(many, workers=0).begin(1))
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_another_image_takes_a_broken_ones_place_which_is_named_once(many):
    break_files(many / "train", "a/007.png", "b/011.png")
    data = open_data(str(many))
    batches = follow(training_batches(data, RECIPE, resolution=8, samples=None, seed=5, share=RankShare(workers=0)))
    with pytest.warns(UserWarning, match=r"2 of 240 train images of 'many' cannot be read: .*Others take their places"):
        first = [*batches.begin(1)]
    assert [len(targets) for _, targets in first] == [8] * 30
    assert sorted(name.split(" ")[0] for name in data.skipped) == ["a/007.png", "b/011.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(first, [*batches.begin(1)]), "the same others, and not a word more"


@pytest.mark.parametrize("error", [EOFError("cut"), struct.error("unpack"), zlib.error("code"), SyntaxError("chunk")])
def test_whatever_pillow_raises_on_a_damaged_file_is_a_broken_image_for_worker_and_probe(many, error):
    data = open_data(str(many))

    def content(index):
        if index == 7:
            raise error
        return data.train.content(index)

    damaged = dataclasses.replace(data.train, content=content)
    samples = Samples(damaged, image_augmentation(RECIPE, data, 8), seed=1, substitutes=np.arange(240))
    pixels, _, unreadable = samples[(1, 7)]
    assert unreadable == (read_or_note(damaged, 7),) == (f"a/007.png ({error})",)
    assert pixels is not None


def test_a_file_that_says_it_has_too_many_pixels_is_a_broken_image(many, monkeypatch):
    Image.new("RGB", (40, 40)).save(many / "train" / "a" / "007.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # the others have 320; Pillow refuses twice as many
    data = open_data(str(many))
    batches = follow(training_batches(data, RECIPE, resolution=8, samples=None, seed=5, share=RankShare(workers=0)))
    with pytest.warns(UserWarning, match=r"1 of 240 train images .*a/007\.png \(Image size \(1600 pixels\) exceeds"):
        assert sum(len(targets) for _, targets in batches.begin(1)) == 240


def test_an_augmentation_that_cannot_be_carried_out_is_no_broken_image(many):
    """timm's rand-m10 asks Pillow for a posterised image of 0 bits now and then."""
    data = open_data(str(many))
    transform = image_augmentation(dataclasses.replace(RECIPE, auto_augment="rand-m10-n4-inc1"), data, 8)
    samples = Samples(data.train, transform, seed=1, substitutes=None)

    def draw():
        for number in range(60):
            random_seed(number)
            transform(data.train.read(0))

    with pytest.raises(ValueError, match="bits"):
        draw()
    assert all(samples[(epoch, 0)][0] is not None for epoch in range(60))


def test_more_broken_images_than_one_in_a_hundred_end_the_training(many):
    break_files(many / "train", *(f"a/{number:03}.png" for number in range(10)))
    with pytest.raises(DataError, match=r"\d of 240 train images of 'many' cannot be read.*At most 1% may be left out"):
        list(batches_of(many, workers=0).begin(1))


def passes_of_two_ranks(folder, *broken):
    """What each of two ranks, a thread each, skipped or raised; of the training images, `broken[rank]` are its own."""
    order = order_of_images(240, seed=5, epoch=1)
    for rank, count in enumerate(broken):
        mine = RankShare(rank=rank, ranks=2).training_indices(order, RECIPE.batch_size)[:count]
        break_files(folder / "train", *(f"{'ab'[index // 120]}/{index % 120:03}.png" for index in mine.tolist()))
    barrier, said = threading.Barrier(2, timeout=30), [(), ()]

    def gather(rank, names):
        said[rank] = names
        barrier.wait()
        return said

    def go_through(rank):
        share = RankShare(rank=rank, ranks=2, workers=0, gather=functools.partial(gather, rank))
        data = open_data(str(folder))
        batches = follow(training_batches(data, RECIPE, resolution=8, samples=None, seed=5, share=share))
        try:
            list(batches.begin(1))
        except DataError as error:
            return str(error)
        return data.skipped

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(go_through, range(2)))


def test_each_rank_knows_the_broken_images_of_all(many):
    with pytest.warns(UserWarning, match="2 of 240 train images of 'many' cannot be read"):
        skipped = passes_of_two_ranks(many, 1, 1)
    assert len(skipped[0]) == 2
    assert sorted(skipped[0]) == sorted(skipped[1])


def test_the_ranks_together_may_lack_one_image_in_a_hundred(many):
    said = passes_of_two_ranks(many, 2, 1)  # each alone lacks less
    assert [text.partition(": ")[0] for text in said] == ["3 of 240 train images of 'many' cannot be read"] * 2


@pytest.mark.parametrize("workers", [0, 1])
def test_validation_leaves_a_broken_image_out_and_counts_the_others(many, workers):
    break_files(many / "val", "b/001.png")
    data = open_data(str(many))
    share = RankShare(workers=workers)
    batches = follow(validation_batches(data, Preprocessing(resolution=8), batch_size=3, share=share))
    with pytest.warns(UserWarning, match=r"1 of 8 validation images .*They are left out"):
        targets = torch.cat([targets for _, targets in batches])
    assert targets.tolist() == [0] * 4 + [1] * 3

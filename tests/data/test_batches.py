import dataclasses
import multiprocessing
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from starsearch.data import open_data
from starsearch.data.augmentation import batch_augmentation, image_augmentation
from starsearch.data.batches import RankShare, training_batches, validation_batches
from starsearch.data.dataset import choose_balanced
from starsearch.data.memory import Images, decode
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import DataError
from starsearch.progress import follow
from starsearch.recipe import Recipe
from starsearch.resolution import of_sides
from tests.data.pictures import LFS_POINTER, write_pictures

PLAIN = Recipe(batch_size=4, crop="none", hflip=0)


def batches_of(data, recipe=PLAIN, *, resolution=16, samples=None, seed=0):
    return follow(training_batches(data, recipe, resolution=resolution, samples=samples, seed=seed))


def validation_of(data, *, resolution=16, crop_pct=0.875, batch_size=4):
    preprocessing = Preprocessing(mean=data.mean, std=data.std, resolution=resolution, crop_pct=crop_pct)
    return follow(validation_batches(data, preprocessing, batch_size=batch_size))


def without_memory(data):
    """The same data set, whose images are loaded by worker processes."""
    return dataclasses.replace(data, cache_limit_bytes=0)


@pytest.mark.parametrize("samples", [10, 23, 100, 1256])
def test_samples_are_equally_many_of_every_class(samples):
    targets = open_data("digits").train.targets
    chosen = choose_balanced(targets, samples, seed=0)
    counts = np.bincount(targets[chosen], minlength=10)
    assert len(set(chosen.tolist())) == samples == counts.sum()
    assert counts.max() - counts.min() <= 1 or samples > 1200  # then some classes have given all
    assert np.array_equal(chosen, choose_balanced(targets, samples, seed=0))
    assert not np.array_equal(chosen, choose_balanced(targets, samples, seed=1))
    few = np.array([0] * 2 + [1] * 50)  # a class with too few images gives all it has
    assert np.bincount(few[choose_balanced(few, 20, seed=0)]).tolist() == [2, 18]


def test_training_batches_are_whole_and_never_repeat_an_image(folder):
    batches = batches_of(open_data(str(folder)), Recipe(batch_size=5, crop="none", hflip=0))
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert [len(labels) for _, labels in batches] == [5, 5]
    assert len(torch.unique(images.flatten(1), dim=0)) == 10
    assert next(iter(batches))[0].is_contiguous(memory_format=torch.channels_last)
    assert set(targets.tolist()) <= {0, 1}


@pytest.mark.parametrize(("crop_pct", "resolution"), [(1.0, 16), (0.875, 16), (1.0, "12x28"), (0.875, "28x12")])
def test_validation_sees_every_image_as_timm_would_transform_it(folder, crop_pct, resolution):
    data = open_data(str(folder))
    batches = validation_of(data, resolution=resolution, crop_pct=crop_pct)
    assert isinstance(batches.images, Images) is (crop_pct == 1.0)
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    size = {16: 16, "12x28": (12, 28), "28x12": (28, 12)}[resolution]
    transform = create_transform(size, mean=data.mean, std=data.std, interpolation="bicubic", crop_pct=crop_pct)
    expected = torch.stack([transform(data.validation.read(index)) for index in range(6)])
    assert torch.allclose(images, expected, atol=1e-5)
    assert targets.tolist() == data.validation.targets.tolist()


def test_a_closed_pass_leaves_no_worker_process(folder):
    images = iter(batches_of(without_memory(open_data(str(folder)))))
    next(images)
    assert multiprocessing.active_children()
    images.close()
    assert not multiprocessing.active_children()


def test_a_padded_crop_is_a_window_of_the_padded_image_perhaps_mirrored():
    data = open_data("digits")
    augment = batch_augmentation(Recipe(crop="pad", hflip=0.5), data, 16)
    pixels = torch.randint(1, 256, (64, 16, 16, 3), dtype=torch.uint8)
    images = (augment(pixels, torch.Generator().manual_seed(0)) * 127.5 + 127.5).round().to(torch.uint8)
    padded = torch.nn.functional.pad(pixels.permute(0, 3, 1, 2), (2, 2, 2, 2))
    windows = padded.unfold(2, 16, 1).unfold(3, 16, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)  # (64, 25, 3, 16, 16)
    straight = (windows == images.unsqueeze(1)).flatten(2).all(2)
    mirrored = (windows.flip(-1) == images.unsqueeze(1)).flatten(2).all(2)
    assert (straight | mirrored).any(1).all()
    assert 15 < mirrored.any(1).sum() < 49
    assert len(set(straight.int().argmax(1).tolist())) > 5


def test_a_random_resized_crop_sees_the_sides_of_small_images_that_are_no_squares(tmp_path):
    """Half of each picture is red: its left fourth and its right one, which a crop to the middle cuts off."""
    for split in ("train", "val"):
        write_pictures(tmp_path / split, {"a": 8, "b": 8}, size=(16, 8))
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, :4, 0] = pixels[:, 12:, 0] = 255
    for file in (tmp_path / "train").rglob("*.png"):
        Image.fromarray(pixels).save(file)
    recipe = Recipe(batch_size=16, crop="random-resized", crop_scale=(0.3, 0.5), random_erasing=0.0)
    data = open_data(str(tmp_path))
    images, _ = next(iter(batches_of(data, recipe, resolution=8)))
    assert images[:, 0].max() > 2.0, "255 red, normalised"
    assert images[:, 0].min() < -2.0


def test_a_random_resized_crop_takes_large_files_and_small_ones_from_memory(folder, tmp_path):
    recipe = Recipe(batch_size=4, crop="random-resized")
    for split, count in (("train", 4), ("val", 1)):
        write_pictures(tmp_path / "small" / split, {"a": count, "b": count}, size=(8, 8))
        write_pictures(tmp_path / "wide" / split, {"a": count, "b": count}, size=(16, 8))
    for data, size, in_memory in (("small", (8, 8), True), ("wide", (8, 16), True), ("wide", (8, 8), False)):
        resolution = of_sides(*size)
        batches = batches_of(open_data(str(tmp_path / data)), recipe, resolution=resolution)
        assert isinstance(batches.images, Images) is in_memory
        assert next(iter(batches))[0].shape == (4, 3, *size)
    assert not isinstance(batches_of(open_data(str(folder)), recipe, resolution=8).images, Images)


def test_a_picture_of_the_shape_that_is_trained_at_loses_nothing_to_its_augmentation():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 24, 3), dtype=np.uint8))
    transform = image_augmentation(Recipe(crop="none", color_jitter=0.0), open_data("digits"), "8x24")
    assert np.array_equal(transform(picture).permute(1, 2, 0).numpy(), np.asarray(picture))


def test_too_few_images_for_a_batch_are_refused(folder):
    with pytest.raises(DataError, match="batch_size 64 images but there are only 12"):
        batches_of(open_data(str(folder)), Recipe(batch_size=64))


def test_a_split_is_decoded_once_over_trials(folder):
    data = open_data(str(folder))
    everything = np.arange(data.num_train)
    first = follow(decode(data, data.train, everything, resolution=16))
    for file in (folder / "train").rglob("*.png"):
        file.unlink()
    assert follow(decode(data, data.train, everything, resolution=16)) is first


def test_images_that_a_gpu_has_no_room_for_stay_with_the_host_and_it_is_said_by_how_much(monkeypatch):
    images = Images(pixels=torch.zeros(1000, 100, 100, 3, dtype=torch.uint8), targets=torch.zeros(1000))
    free = [(40_000_000, 0), (100_000_000, 0)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: free.pop(0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 8_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2_000_000)  # the other 6 MB are torch's to use
    with pytest.warns(UserWarning, match=r"digits take 0\.03 GB, 0\.01 GB more than half of what is free on the GPU"):
        assert images.on_gpu("cuda", "digits") is images

    def taken(*_args, **_kwargs):
        raise torch.OutOfMemoryError("by another process, since it was free")

    monkeypatch.setattr(torch.Tensor, "to", taken)
    with pytest.warns(UserWarning, match=r"digits take 0\.03 GB, 0\.03 GB more"):
        assert images.on_gpu("cuda", "digits") is images


@pytest.mark.parametrize(
    ("limit", "policy", "why"),
    [
        (0, None, r"they take 0\.00 GB at 16 px, 0\.00 GB more than is kept; `starsearch data pack`"),
        (2**30, "rand-m1-mstd0.5", "auto_augment rand-m1-mstd0.5 is done image by image; a recipe without it is"),
    ],
)
def test_what_a_gpu_will_wait_for_is_said(folder, limit, policy, why):
    recipe, data = Recipe(batch_size=4, auto_augment=policy), open_data(str(folder), cache_limit_bytes=limit)
    share = RankShare(device="cuda", workers=3)
    with (
        pytest.warns(UserWarning, match=f"3 processes prepare the training images .* may wait: {why}"),
        suppress(Exception),
    ):
        follow(training_batches(data, recipe, resolution=16, samples=None, seed=0, share=share))  # there is no GPU


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_bytes(b"not a picture"), "cannot identify image file"),
        (lambda file: file.symlink_to("../nowhere.png"), "the file is missing, or a link that leads nowhere"),
        (lambda file: file.write_bytes(LFS_POINTER), "a pointer of Git LFS .*`git lfs pull`"),
    ],
    ids=["no picture", "broken link", "pointer of Git LFS"],
)
def test_an_unreadable_image_is_left_out_named_and_counted(tmp_path, spoil, reason):
    write_pictures(tmp_path / "many" / "train", {"a": 60, "b": 60}, size=(4, 4))
    write_pictures(tmp_path / "many" / "val", {"a": 1, "b": 1}, size=(4, 4))
    file = tmp_path / "many" / "train" / "b" / "007.png"
    file.unlink()
    spoil(file)
    data = open_data(str(tmp_path / "many"))
    with pytest.warns(UserWarning, match=rf"1 of 120 train images of 'many' cannot be read: b/007\.png \({reason}\)"):
        batches = batches_of(data, resolution=4)
    assert len(batches.images) == 119
    assert len(data.skipped) == 1
    assert data.skipped[0].startswith("b/007.png")


def test_many_unreadable_images_are_refused(folder):
    for image in (folder / "train" / "cat").iterdir():
        image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"6 of 12 train images of 'pets' cannot be read.*cat/000\.png"):
        batches_of(open_data(str(folder)))

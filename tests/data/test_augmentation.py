"""What is done to whole batches: the same boxes and pixels as Pillow, timm and torchvision give image by image."""

import dataclasses
import random
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms.v2 import functional as torchvision

from starsearch.data import open_data
from starsearch.data.augmentation import batch_augmentation, change_colour, crop_and_resize, draw_boxes
from starsearch.data.batches import RankShare, training_batches
from starsearch.progress import follow
from starsearch.recipe import Recipe
from tests.data.pictures import write_pictures

ALL = Recipe(batch_size=16, crop="random-resized", train_interpolation="random", color_jitter=0.4, random_erasing=0.5)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_a_crop_is_resized_as_pillow_resizes_it(kind):
    rng = np.random.default_rng(0)
    pixels = rng.integers(64, 192, (40, 48, 3), dtype=np.uint8)  # Pillow clips twice, in an order of its own
    for flip in [False, True] * 10:  # boxes smaller and larger than the result, which is 24 by 36
        height, width = rng.integers(5, 41), rng.integers(5, 49)
        top, left = rng.integers(0, 41 - height), rng.integers(0, 49 - width)
        box = (left, top, left + width, top + height)
        expected = np.asarray(Image.fromarray(pixels).crop(box).resize((36, 24), Image.Resampling[kind.upper()]))
        sides = tuple(tuple(torch.tensor([float(part)]) for part in side) for side in ((top, height), (left, width)))
        options = {"is_cubic": torch.tensor([kind == "bicubic"]), "flips": torch.tensor([flip])}
        got = crop_and_resize(torch.from_numpy(pixels).unsqueeze(0), sides, "24x36", **options)[0].numpy()
        assert np.abs(got - (expected[:, ::-1] if flip else expected)).max() < 1.6, "Pillow rounds twice"


def boxes_of(number, within, scale, ratio, **options):
    """Our boxes (number, 4), as top, left, height and width."""
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    (top, height), (left, width) = draw_boxes(draw, number, within, scale, ratio, **options)
    return torch.stack([top, left, height, width], dim=1).numpy()


def assert_alike(ours, theirs):
    """Means and deviations to within five standard errors, and the same extremes but for a pixel or two."""
    for name, one, other in zip(("top", "left", "height", "width"), ours.T, theirs.T, strict=True):
        error = np.sqrt((one.var() + other.var()) / len(other))
        assert abs(one.mean() - other.mean()) < 5 * error, name
        assert one.std() == pytest.approx(other.std(), rel=0.15), name
        assert abs(one.max() - other.max()) <= 2, name
        assert abs(one.min() - other.min()) <= 2, name


def test_crops_have_places_and_sizes_as_timms():
    crop = RandomResizedCropAndInterpolation(32, scale=(0.08, 1.0))
    random.seed(0)
    theirs = np.array([crop.get_params(Image.new("RGB", (64, 64)), crop.scale, crop.ratio) for _ in range(4000)])
    ours = boxes_of(4000, (64, 64), crop.scale, crop.ratio, otherwise=(64, 64))
    assert_alike(ours, theirs)
    assert (ours[:, :2] + ours[:, 2:]).max() <= 64


def test_erased_boxes_are_as_timms_and_filled_with_noise():
    random.seed(0)
    erase = RandomErasing(0.5, mode="pixel", device="cpu")

    def boxes(images):
        sides = []
        for touched in (images[:, 0].any(2), images[:, 0].any(1)):  # rows, columns
            first, last = touched.int().argmax(1), touched.shape[1] - touched.flip(1).int().argmax(1)
            sides.append((first, last - first))
        erased = images[:, 0].flatten(1).any(1)
        return torch.stack([part for pair in zip(*sides, strict=True) for part in pair], dim=1)[erased].double().numpy()

    theirs = boxes(erase(torch.zeros(400, 3, 32, 32)))
    data = dataclasses.replace(open_data("digits"), mean=(0.0,) * 3, std=(1.0,) * 3)
    augment = batch_augmentation(Recipe(crop="none", hflip=0, random_erasing=0.5), data, 32)
    images = augment(torch.zeros(2000, 32, 32, 3, dtype=torch.uint8), torch.Generator().manual_seed(0))
    ours = boxes(images)
    assert len(ours) / 2000 == pytest.approx(len(theirs) / 400, abs=0.1)
    assert_alike(ours, theirs)
    noise = images[images != 0]
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_colours_change_as_torchvisions_by_the_same_factors(order):
    pixels = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    factors = torch.tensor([[0.6, 1.4, 1.0, 0.9], [1.3, 0.7, 1.2, 1.0], [0.8, 1.1, 0.6, 1.4]])
    changes = torchvision.adjust_brightness, torchvision.adjust_contrast, torchvision.adjust_saturation
    expected = pixels.float() / 255
    for which in order:
        expected = torch.stack([changes[which](image, float(f)) for image, f in zip(expected, factors[which])])  # noqa: B905
    got = change_colour(pixels.permute(0, 2, 3, 1).float(), factors, torch.tensor(order).unsqueeze(1).expand(3, 4))
    assert torch.allclose(got.permute(0, 3, 1, 2) / 255, expected, atol=1e-3)


@pytest.fixture
def small(tmp_path):
    """Pictures that are kept in memory for a random-resized crop: squares no larger than they are trained at."""
    for split, count in (("train", 32), ("val", 2)):
        write_pictures(tmp_path / split, {"a": count, "b": count}, size=(16, 16))
    return open_data(str(tmp_path))


@pytest.mark.parametrize(
    "recipe", [ALL, dataclasses.replace(ALL, crop="pad"), Recipe(batch_size=16, auto_augment="rand-m5")]
)
def test_what_a_batch_becomes_follows_from_seed_epoch_batch_and_rank_alone(small, recipe):
    def batches(seed=0, rank=0):
        share = RankShare(rank=rank, ranks=2, workers=0)
        return follow(training_batches(small, recipe, resolution=16, samples=None, seed=seed, share=share))

    torch.manual_seed(1)
    whole = [images for images, _ in batches().begin(3)]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    later = [images for images, _ in batches().begin(3, start_batch=2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(whole) == 4
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], later, strict=True))
    assert not torch.equal(whole[0], next(batches().begin(4))[0])
    assert whole[0].shape == (8, 3, 16, 16)
    assert whole[0].is_contiguous(memory_format=torch.channels_last)

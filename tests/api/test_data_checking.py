import time

import numpy as np
import pytest

from starsearch.api.data_checking import check_data, describe_classes
from starsearch.data import open_data
from starsearch.data.decode_speed import check_split, measure_workers
from starsearch.data.synsets import imagenet_descriptions, imagenet_synsets
from tests.data.imagenet_like import SYNSETS, write_folders


def _check(root, **options):
    return check_data(str(root), **{"resolution": 16, "workers": 1, **options})


def test_counts_sizes_and_classes_are_told(tmp_path):
    found = _check(write_folders(tmp_path / "imagenet", train=(30, 20, 10), validation=(4, 4, 4)))
    assert found.classes.startswith("These are 3 of ImageNet's 1,000 classes; n01443537, n01484850, n01491361 and 994")
    assert found.train.num_images == 60
    assert found.train.images_a_class == (10, 20.0, 30)
    assert (found.train.sampled, found.validation.sampled) == (60, 12)
    data = open_data(str(tmp_path / "imagenet"))
    sides = sorted(min(data.train.read(index).size) for index in range(60))
    assert found.train.shorter_side_px == (sides[0], float(np.median(sides)), sides[-1])
    assert found.warnings == ()
    assert found.workers_needed is None


def test_unreadable_images_and_small_classes_are_named(tmp_path):
    root = write_folders(tmp_path / "imagenet", train=(30, 30, 2))
    found = _check(root, samples=9)
    first = found.examples[SYNSETS[0]][0]
    broken = root / "train" / first
    broken.write_bytes(broken.read_bytes()[:50])
    found = _check(root, samples=9)  # what it shows it has read
    assert found.train.unreadable[0].startswith(f"{first} (")
    assert first not in found.examples[SYNSETS[0]]
    found = _check(root)
    (said,) = found.train.unreadable
    assert said.startswith(f"{first} (")
    assert found.train.small_classes == (f"{SYNSETS[2]} (2)",)
    assert "1 of 62 training images that were tried (1.6%) cannot be read" in found.warnings[0]
    words = f"1 classes have less than a tenth of the usual number of training images: {SYNSETS[2]} (2)"
    assert words in found.warnings[1]
    assert "smaller than 96 pixels" in " ".join(_check(root, resolution=96).warnings)


def test_loading_slower_than_training_says_how_many_workers_would_do(tmp_path):
    root = write_folders(tmp_path / "imagenet")
    fast = _check(root, images_per_second=0.5)
    assert fast.warnings == ()
    assert fast.workers_needed == 1
    slow = _check(root, images_per_second=1e7)
    assert slow.training_images_per_second == 1e7
    assert slow.workers_needed >= 1.1 * 1e7 / slow.workers_images_per_second - 1
    assert f"{slow.workers_needed:,} workers would do, more than the" in slow.warnings[0]


def test_several_workers_are_timed_while_all_are_at_work():
    # An image takes 20 ms in which nothing is computed, as one from a far disk: one process reads at most 50 a second,
    # four at most 200, whatever the cores.
    split = open_data("digits").train

    def transform(image):
        time.sleep(0.02)

    assert check_split(split, range(10), transform).images_per_second <= 50
    assert 50 < measure_workers(split, range(120), transform, workers=4) <= 200


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (imagenet_synsets(), "These are ImageNet's 1,000 classes in timm's order."),
        (imagenet_descriptions(), "These are ImageNet's 1,000 classes in timm's order."),
        (imagenet_synsets()[::-1], "not in timm's order"),
        (imagenet_synsets()[:-1], "999 of ImageNet's 1,000 classes; n15075141 are not there"),
        (tuple(map(str, range(1000))), "1,000 classes without names"),
        ((*SYNSETS, "cat"), "3 of the 4 classes are ImageNet's; cat are not"),
        (("cat", "dog"), "There are 2 classes, not ImageNet's."),
    ],
)
def test_classes_are_told_in_a_sentence(classes, words):
    assert words in describe_classes(classes)

"""ImageNet's three original files, read as they are: against their unpacked folders, cut off, incomplete."""

import tarfile

import pytest

from starsearch.data import open_data, open_validation
from starsearch.data.sources.tars import DEVKIT, TRAIN, VALIDATION
from starsearch.errors import DataError
from tests.data.imagenet_like import (
    add_member,
    content_of,
    jpeg,
    write_devkit,
    write_folders,
    write_original_tars,
)


def test_original_tars_are_the_unpacked_folders_in_order_classes_and_fingerprint(tmp_path):
    of_tars = open_data(str(write_original_tars(tmp_path / "tars")))
    of_folders = open_data(str(write_folders(tmp_path / "folders")))
    assert of_tars.fingerprint == of_folders.fingerprint
    for split in ("train", "validation"):
        tars, folders = getattr(of_tars, split), getattr(of_folders, split)
        assert tars.targets.tolist() == folders.targets.tolist()
        assert [tars.names[i] for i in range(len(tars))] == [folders.names[i] for i in range(len(folders))]


@pytest.mark.parametrize("missing", [TRAIN, VALIDATION, DEVKIT])
def test_a_missing_original_file_is_named(tmp_path, missing):
    root = write_original_tars(tmp_path / "imagenet")
    (root / missing).unlink()
    there = next(name for name in (TRAIN, VALIDATION) if name != missing)
    with pytest.raises(DataError, match=rf"it lacks {missing} \(.*it has .*{there}.*image-net\.org"):
        open_data(str(root))


def test_a_devkit_of_another_number_of_images_is_refused(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    write_devkit(root / DEVKIT, [0, 1, 2])
    with pytest.raises(DataError, match=rf"{VALIDATION} holds 12 images but {DEVKIT} tells the classes of 3"):
        open_data(str(root))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "does not hold data/meta.mat and data/ILSVRC2012_validation_ground_truth.txt"),
        ({"data/meta.mat": b"x"}, "does not hold data/ILSVRC2012_validation_ground_truth.txt"),
        (
            {"data/meta.mat": b"x", "data/ILSVRC2012_validation_ground_truth.txt": b"1"},
            "cannot be read together: .*Fetch",
        ),
    ],
)
def test_a_devkit_without_its_files_is_refused(tmp_path, members, words):
    root = write_original_tars(tmp_path / "imagenet")
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        for name, content in members.items():
            add_member(tar, f"ILSVRC2012_devkit_t12/{name}", content)
    with pytest.raises(DataError, match=words):
        open_validation(str(root))


def test_a_devkit_that_contradicts_itself_is_refused(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    write_devkit(root / DEVKIT, [0, 1, 2] * 4, unknown=True)
    with pytest.raises(DataError, match=r"cannot be read together: KeyError 9"):
        open_validation(str(root))


@pytest.mark.parametrize(("file", "kept"), [(TRAIN, 2_000), (VALIDATION, 2_000), (DEVKIT, 200), (TRAIN, 0)])
def test_an_original_file_that_is_cut_off_is_named(tmp_path, file, kept):
    root = write_original_tars(tmp_path / "imagenet")
    (root / file).write_bytes((root / file).read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"imagenet/{file} cannot be read as a.* tar: .*etch it again"):
        open_data(str(root))


def test_other_tars_under_imagenets_names_are_refused(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    with tarfile.open(root / TRAIN, "w") as tar:
        add_member(tar, "a.JPEG", jpeg(0))
    with pytest.raises(DataError, match="outside of class folders in imagenet/ILSVRC2012_img_train"):
        open_data(str(root))


def test_the_index_of_large_tars_is_kept_and_made_anew_when_they_change(tmp_path, monkeypatch):
    root = write_original_tars(tmp_path / "imagenet")
    first = open_data(str(root))
    assert sorted(path.name for path in root.glob("starsearch-*")) == [
        "starsearch-index-train.npz",
        "starsearch-index-validation.npz",
    ]
    with monkeypatch.context() as patched:
        patched.setattr("starsearch.data.sources.tars._files_of", None)  # the tars are not read again
        again = open_data(str(root))
    assert again.fingerprint == first.fingerprint
    assert content_of(again) == content_of(first)
    write_original_tars(root, train=(2, 2, 2))
    assert open_data(str(root)).num_train == 6
    (root / "starsearch-index-train.npz").write_bytes(b"damaged")
    assert open_data(str(root)).num_train == 6

"""How data sets lie on disk: splits, classes, hidden files and suffixes, by one rule for every reader."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from starsearch.data import open_data, open_validation
from starsearch.errors import DataError
from tests.data.imagenet_like import add_member, jpeg, write_parquet, write_shards
from tests.data.pictures import pack, write_pictures


@pytest.fixture
def write(folder, tmp_path):
    """Writes pets in a form, its splits called as said; the folder."""

    def write(form, train="train", validation="validation"):
        root = tmp_path / form
        root.mkdir()
        names = {"train": train, "validation": validation}
        if form in ("folders", "tars"):
            for split, name in names.items():
                if form == "tars":
                    pack(folder / split, root / f"{name}.tar")
                else:
                    shutil.copytree(folder / split, root / name)
            return root
        (write_shards if form == "shards" else write_parquet)(root, train=(2, 2, 2), validation=(1, 1, 1))
        for split, name in names.items():
            for file in list(root.rglob(f"*{split}-0*")):
                file.rename(file.with_name(file.name.replace(f"{split}-0", f"{name}-0")))
        return root

    return write


FORMS = ("folders", "tars", "shards", "parquet")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("train", "validation"),
    [("train", "valid"), ("training", "val"), ("Train", "Validation"), ("TRAINING", "Testing"), ("train", "test")],
)
def test_splits_are_known_by_all_their_usual_names_whatever_the_form(write, form, train, validation):
    root = write(form, train, validation)
    data = open_data(str(root))
    counts = (12, 6) if form in ("folders", "tars") else (6, 3)
    assert (data.num_train, data.num_validation) == counts
    assert len(open_validation(str(root)).validation) == counts[1]


@pytest.mark.parametrize("form", FORMS)
def test_test_images_are_left_alone_where_there_are_validation_images(write, form):
    root = write(form, "train", "val")
    expected = open_data(str(root)).fingerprint
    for file in list(root.rglob("*val*")):
        copy = file.with_name(file.name.replace("val", "test"))
        shutil.copytree(file, copy) if file.is_dir() else shutil.copy(file, copy)
    assert open_data(str(root)).fingerprint == expected


@pytest.mark.parametrize("form", FORMS)
def test_two_names_of_one_split_are_refused(write, form):
    root = write(form)
    for file in list(root.rglob("*train*")):
        copy = file.with_name(file.name.replace("train", "Training"))
        shutil.copytree(file, copy) if file.is_dir() else shutil.copy(file, copy)
    with pytest.raises(DataError, match=r"'.*[Tt]rain.*', '.*[Tt]rain.*' of .* all mean the train split"):
        open_data(str(root))


def test_images_of_an_unlabelled_test_folder_are_no_validation_images(folder):
    (folder / "validation").rename(folder / "test")
    for image in list((folder / "test").rglob("*.png")):
        image.rename(folder / "test" / f"{image.parent.name}{image.name}")
    for name in ("cat", "dog"):
        (folder / "test" / name).rmdir()
    with pytest.raises(DataError, match=r"--data .*/pets/train --validation-fraction 0\.2"):
        open_data(str(folder))


def test_validation_takes_class_folders_that_are_called_after_a_split(tmp_path):
    write_pictures(tmp_path / "vehicles", {"bus": 2, "train": 3})
    found = open_validation(str(tmp_path / "vehicles"))
    assert found.classes == ("bus", "train")
    assert len(found.validation) == 5


def test_validation_refuses_training_images_alone(folder):
    shutil.rmtree(folder / "validation")
    with pytest.raises(DataError, match=r"'pets' does not hold .* it holds train"):
        open_validation(str(folder))


@pytest.fixture
def plain(folder):
    """The class folders cat and dog, of 6 pictures each, in no split."""
    (folder / "train").rename(folder.parent / "plain")
    return folder.parent / "plain"


def test_class_folders_without_splits_are_split_by_class_and_always_alike(plain):
    shutil.rmtree(plain / "dog")
    write_pictures(plain, {"dog": 30})
    data = open_data(f"{plain}?validation_fraction=0.2")
    assert data.name == "plain?validation_fraction=0.2"
    assert np.bincount(data.train.targets).tolist() == [5, 24]
    assert np.bincount(data.validation.targets).tolist() == [1, 6]
    names = [[split.names[i] for i in range(len(split))] for split in (data.train, data.validation)]
    assert sorted(names[0] + names[1]) == sorted(p.relative_to(plain).as_posix() for p in plain.rglob("*.png"))
    for split, of_split in zip((data.train, data.validation), names, strict=True):
        for index, name in enumerate(of_split):
            assert split.read(index).tobytes() == Image.open(plain / name).convert("RGB").tobytes()
            assert name.startswith(data.classes[split.targets[index]])
    held_out = open_validation(f"{plain}?validation_fraction=0.2").validation
    assert [held_out.names[i] for i in range(len(held_out))] == names[1]
    assert open_data(f"{plain}?validation_fraction=0.5").fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            None,
            "'plain' does not hold .*--data .*/plain --validation-fraction 0.2, or data: .*/plain.validation_f",
        ),
        ("a class of one image", "The class 'ant' of 'plain' has one image"),
        ("splits of its own", "no splits of their own; 'plain' is read otherwise. Leave it out"),
    ],
)
def test_what_cannot_be_split_is_refused(plain, change, words):
    if change == "a class of one image":
        write_pictures(plain, {"ant": 1})
    elif change == "splits of its own":
        for split in ("train", "val"):
            write_pictures(plain / split, {"ant": 1, "bee": 1})
    with pytest.raises(DataError, match=words):
        open_data(str(plain) if change is None else f"{plain}?validation_fraction=0.2")


@pytest.mark.parametrize("link", ["val", "train/bee"])
def test_a_split_or_a_class_that_is_a_link_to_nowhere_is_refused(tmp_path, link):
    for split in ("train", "test"):  # not to be taken in place of val/
        write_pictures(tmp_path / split, {"ant": 1, "cow": 1})
    (tmp_path / link).symlink_to("nowhere")
    with pytest.raises(DataError, match=f"Links that lead nowhere: '{link.split('/')[-1]}'"):
        open_data(str(tmp_path))


@pytest.mark.parametrize("data", ["digits?validation_fraction=0.2", "torch/cifar10?classes=outermost"])
def test_a_named_data_set_takes_no_option_of_folders(data):
    with pytest.raises(DataError, match="is read otherwise"):
        open_data(data)


@pytest.fixture(params=["folders", "tars"])
def nested(request, tmp_path):
    """Data of the classes defect and good, each seen by camera_1 and camera_2."""
    for split, count in (("train", 3), ("val", 1)):
        for name in ("defect", "good"):
            write_pictures(tmp_path / "parts" / split / name, {"camera_1": count, "camera_2": count})
        if request.param == "tars":
            pack(tmp_path / "parts" / split, tmp_path / "parts" / f"{split}.tar")
            shutil.rmtree(tmp_path / "parts" / split)
    return tmp_path / "parts"


def test_nested_folders_are_refused_with_both_readings(nested):
    words = (
        r"parts/train.* the outermost \(2 classes, 'defect' with 6 images … 'good' with 6 images\) or the innermost "
        r"\(2 classes, 'camera_1' with 6 .*'camera_2' with 6 images\).*--classes outermost or --classes innermost"
    )
    with pytest.raises(DataError, match=words):
        open_data(str(nested))


@pytest.mark.parametrize(
    ("choice", "classes"), [("outermost", ("defect", "good")), ("innermost", ("camera_1", "camera_2"))]
)
def test_the_chosen_folder_of_nested_ones_names_the_class(nested, choice, classes):
    data = open_data(f"{nested}?classes={choice}")
    assert data.classes == classes
    assert data.name == f"parts?classes={choice}"
    for split in (data.train, data.validation):
        for index, target in enumerate(split.targets):
            assert classes[target] in split.names[index].split("/")
    assert open_validation(f"{nested}?classes={choice}").classes == classes


def test_nested_folders_that_agree_need_no_choice(folder):
    for split in ("train", "validation"):
        (folder / split / "dog" / "dog").mkdir()
        for image in list((folder / split / "dog").glob("*.png")):
            image.rename(folder / split / "dog" / "dog" / image.name)
    assert open_data(str(folder)).train.targets.tolist() == [0] * 6 + [1] * 6


def test_shards_have_no_nested_folders_to_choose_from(tmp_path):
    with pytest.raises(DataError, match="classes says which of nested folders names the class"):
        open_data(f"{write_shards(tmp_path / 'imagenet')}?classes=outermost")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_hidden_is_no_data_in_any_form(write, form, hidden):
    root = write(form)
    expected = open_data(str(root))
    for index in root.glob("starsearch-index-*"):
        index.unlink()
    if form == "folders":
        for place in (root, root / "train", root / "train" / "cat"):
            write_pictures(place, {hidden: 2})
        (root / "train" / "cat" / "._000.png").write_bytes(b"a resource fork")
    elif form == "parquet":
        (root / "data" / f"._{hidden}-train-00002.parquet").write_bytes(b"x")
        (root / hidden).mkdir()
        shutil.copytree(root / "data", root / hidden / "train")
    else:
        tar = next(root.glob("*train*.tar"))
        with tarfile.open(tar, "a") as file:
            for name in (f"./{hidden}/0.png", f"cat/{hidden}/0.png", "cat/._000.png", f"{hidden}/0.cls"):
                add_member(file, name, jpeg(name) if name.endswith("png") else b"7")
        (root / f"._{tar.name}").write_bytes(b"x")
    data = open_data(str(root))
    assert data.classes == expected.classes
    assert data.num_train == expected.num_train
    assert data.left_out == expected.left_out == {}


def test_every_suffix_that_pillow_reads_is_an_image_in_either_case(folder):
    picture = Image.open(folder / "train" / "cat" / "000.png")
    shutil.rmtree(folder / "train" / "dog")
    (folder / "train" / "dog").mkdir()
    suffixes = [".webp", ".gif", ".tif", ".TIFF", ".bmp", ".jp2", ".PNG", ".JpEg", ".ppm", ".jfif", ".tga"]
    for suffix in suffixes:
        picture.save(folder / "train" / "dog" / f"a{suffix}")
    data = open_data(str(folder))
    names = [data.train.names[i] for i in np.flatnonzero(data.train.targets == 1)]
    assert sorted(names) == sorted(f"dog/a{suffix}" for suffix in suffixes)
    assert {data.train.read(index).size for index in range(data.num_train)} == {picture.size}


@pytest.mark.parametrize("form", ["folders", "tars", "shards"])
def test_what_is_no_image_is_counted_by_suffix(write, form):
    files = ("cat/notes.txt", "cat/b.TXT", "cat/label.xml", "cat/film.mpg", "LICENSE")
    root = write(form)
    for name in files:
        if form == "folders":
            (root / "train" / name).write_bytes(b"x")
        else:
            with tarfile.open(next(root.glob("*train*.tar")), "a") as tar:
                add_member(tar, name, b"x")
    for _ in range(2):  # the second time from the index that is kept beside tars
        assert open_data(str(root)).left_out == {".txt": 2, ".xml": 1, ".mpg": 1, "": 1}


def test_the_files_there_are_instead_of_images_are_named(folder):
    for image in (folder / "train").rglob("*.png"):
        image.rename(image.with_suffix(".npy"))
    with pytest.raises(DataError, match=r"no images in the class folders of pets/train/\. There are 12 \.npy files"):
        open_data(str(folder))


def test_a_tar_of_class_tars_stands_for_class_folders(folder, tmp_path):
    root = tmp_path / "tars"
    root.mkdir()
    for split in ("train", "validation"):
        with tarfile.open(root / f"{split}.tar", "w") as outer:
            for name in ("cat", "dog"):
                content = io.BytesIO()
                with tarfile.open(fileobj=content, mode="w") as inner:
                    for image in sorted((folder / split / name).iterdir()):
                        inner.add(image, arcname=image.name)
                add_member(outer, f"{name}.tar", content.getvalue())
    data, expected = open_data(str(root)), open_data(str(folder))
    assert data.fingerprint == expected.fingerprint
    assert data.train.read(7).tobytes() == expected.train.read(7).tobytes()


def test_an_index_that_another_rule_made_is_not_trusted(tmp_path, monkeypatch):
    root = write_shards(tmp_path / "imagenet")
    with tarfile.open(root / "imagenet1k-train-0000.tar", "a") as tar:
        add_member(tar, "n01440764_more.bmp", jpeg("more"))
        add_member(tar, "n01440764_more.cls", b"0")
    with monkeypatch.context() as patched:
        patched.setattr("starsearch.data.names.image_suffixes", lambda: frozenset({".jpg"}))
        patched.setattr("starsearch.data.sources.tars.image_suffixes", lambda: frozenset({".jpg"}))
        assert open_data(str(root)).num_train == 18
    assert open_data(str(root)).num_train == 19


def test_the_bare_image_of_a_key_is_trained_on_and_its_masks_are_left_out(tmp_path):
    root = write_shards(tmp_path / "imagenet", shards=1)
    expected = open_data(str(root)).fingerprint
    with tarfile.open(root / "imagenet1k-train-0000.tar") as tar:
        keys = [name.partition(".")[0] for name in tar.getnames() if name.endswith(".jpg")]
    with tarfile.open(root / "imagenet1k-train-0000.tar", "a") as tar:
        for key in keys:
            add_member(tar, f"{key}.seg.png", jpeg("black"))
    data = open_data(str(root))
    assert data.fingerprint == expected
    assert data.left_out == {".seg.png": 18}


@pytest.mark.parametrize(
    ("members", "named"),
    [
        (("a.jpg", "a.png", "a.cls"), "a.jpg and a.png"),
        (("a.image.jpg", "a.mask.png", "a.cls"), "a.image.jpg and a.mask.png"),
        (("photo.v1.jpg", "photo.v1.cls", "photo.v2.jpg", "photo.v2.cls"), "photo.v1.cls and photo.v1.jpg and "),
        (("photo.jpg", "photo.cls", "photo.v2.jpg", "photo.v2.cls"), "photo.cls and photo.jpg and photo.v2.cls"),
        (("a.jpg", "a.cls", "a.jpg"), "a.jpg and a.jpg"),
    ],
)
def test_images_that_share_a_key_are_refused_and_named(tmp_path, members, named):
    root = write_shards(tmp_path / "imagenet", shards=1)
    with tarfile.open(root / "imagenet1k-train-0000.tar", "w") as tar:
        for name in members:
            add_member(tar, name, b"0" if name.endswith("cls") else jpeg(name))
    with pytest.raises(DataError, match=rf"{named}.* in imagenet/imagenet1k-train-0000.tar share the key"):
        open_data(str(root))

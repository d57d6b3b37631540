"""A data set is the same in every form: splits, classes, order, names, hidden files and suffixes, by one rule."""

import io
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from starsearch.data import open_data, open_validation, sources
from starsearch.data.sources.tars import TRAIN
from tests.data.imagenet_like import (
    SYNSETS,
    add_member,
    content_of,
    images,
    jpeg,
    write_folders,
    write_original_tars,
    write_parquet,
    write_shards,
)
from tests.data.pictures import pack, write_pictures

IMAGENET = {
    "folders": write_folders,
    "original tars": write_original_tars,
    "shards": write_shards,
    "parquet": write_parquet,
}
every_imagenet = pytest.mark.parametrize("write", IMAGENET.values(), ids=IMAGENET)


def test_digits_are_split_evenly_in_every_class_and_always_alike():
    data = open_data("digits")
    assert data.classes == tuple("0123456789")
    assert (data.num_train, data.num_validation) == (1257, 540)
    counts = np.bincount(data.validation.targets)
    assert counts.max() - counts.min() <= 3
    assert (data.train.read(0).size, data.train.read(0).mode) == ((8, 8), "RGB")
    assert open_data("digits").fingerprint == data.fingerprint


# ---- ImageNet's forms


@every_imagenet
def test_every_form_holds_the_images_that_were_written_with_their_classes(tmp_path, write):
    data = open_data(str(write(tmp_path / "imagenet")))
    assert (data.name, data.classes) == ("imagenet", SYNSETS)
    written = [
        sorted(
            (SYNSETS[target], Image.open(io.BytesIO(content)).convert("RGB").tobytes())
            for _, target, content in images(split, counts)
        )
        for split, counts in (("train", (5, 6, 7)), ("validation", (4, 4, 4)))
    ]
    assert content_of(data) == written


@dataclass
class _Pixels(Dataset):
    read: Callable
    length: int

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.read(index).tobytes()


@every_imagenet
def test_reading_works_in_other_processes_and_after_pickling(tmp_path, write):
    train = open_data(str(write(tmp_path / "imagenet"))).train
    here = [train.read(index).tobytes() for index in range(len(train))]
    assert list(DataLoader(_Pixels(train.read, len(train)), batch_size=None, num_workers=2)) == here
    there = pickle.loads(pickle.dumps(train))
    assert (there.read(7).tobytes(), there.names[7]) == (here[7], train.names[7])


@every_imagenet
def test_the_fingerprint_does_not_know_where_the_data_lies_but_what_it_is(tmp_path, write):
    first = open_data(str(write(tmp_path / "imagenet")))
    shutil.copytree(tmp_path / "imagenet", tmp_path / "elsewhere" / "other")
    assert open_data(str(tmp_path / "elsewhere" / "other")).fingerprint == first.fingerprint
    assert open_data(str(write(tmp_path / "more", train=(5, 6, 8)))).fingerprint != first.fingerprint


@every_imagenet
def test_a_broken_image_is_an_error_of_that_image_alone(tmp_path, write, monkeypatch):
    def broken_third(seed, **options):
        content = jpeg(seed, **options)
        return content[: len(content) // 2] if str(seed).endswith(" 3") else content

    monkeypatch.setattr("tests.data.imagenet_like.jpeg", broken_third)
    train, broken = open_data(str(write(tmp_path / "imagenet"))).train, []
    for index in range(len(train)):
        try:
            train.read(index)
        except OSError:
            broken.append(train.names[index])
    assert len(broken) == 3
    assert all("_3" in name for name in broken)


def test_original_tars_are_the_unpacked_folders_in_order_classes_and_fingerprint(tmp_path):
    of_tars = open_data(str(write_original_tars(tmp_path / "tars")))
    of_folders = open_data(str(write_folders(tmp_path / "folders")))
    assert of_tars.fingerprint == of_folders.fingerprint
    for split in ("train", "validation"):
        tars, folders = getattr(of_tars, split), getattr(of_folders, split)
        assert tars.targets.tolist() == folders.targets.tolist()
        assert tars.names == folders.names


# ---- Splits, hidden files and suffixes


FORMS = ("folders", "tars", "shards", "parquet")
every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def write(folder, tmp_path):
    """Writes a data set in a form, its splits named as said; its folder."""

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


@every_form
@pytest.mark.parametrize(
    ("train", "validation"), [("train", "valid"), ("Train", "Validation"), ("TRAINING", "Testing"), ("training", "val")]
)
def test_splits_are_known_by_all_their_usual_names_whatever_the_form(write, form, train, validation):
    root = write(form, train, validation)
    data, counts = open_data(str(root)), (12, 6) if form in ("folders", "tars") else (6, 3)
    assert (data.num_train, data.num_validation) == counts
    assert len(open_validation(str(root)).validation) == counts[1]


@every_form
def test_test_images_are_left_alone_where_there_are_validation_images(write, form):
    root = write(form, "train", "val")
    expected = open_data(str(root)).fingerprint
    for file in list(root.rglob("*val*")):
        copy = file.with_name(file.name.replace("val", "test"))
        shutil.copytree(file, copy) if file.is_dir() else shutil.copy(file, copy)
    assert open_data(str(root)).fingerprint == expected


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX"])
@every_form
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
    assert (data.classes, data.num_train) == (expected.classes, expected.num_train)
    assert data.left_out == expected.left_out == {}


def test_every_suffix_that_pillow_reads_is_an_image_in_either_case(folder):
    picture = Image.open(folder / "train" / "cat" / "000.png")
    shutil.rmtree(folder / "train" / "dog")
    (folder / "train" / "dog").mkdir()
    suffixes = [".webp", ".gif", ".tif", ".TIFF", ".bmp", ".jp2", ".PNG", ".JpEg", ".ppm", ".jfif", ".tga"]
    for suffix in suffixes:
        picture.save(folder / "train" / "dog" / f"a{suffix}")
    train = open_data(str(folder)).train
    assert sorted(train.names[6:]) == sorted(f"dog/a{suffix}" for suffix in suffixes)
    assert {train.read(index).size for index in range(len(train))} == {picture.size}


@pytest.mark.parametrize("form", ["folders", "tars", "shards"])
def test_what_is_no_image_is_counted_by_suffix(write, form):
    root = write(form)
    for name in ("cat/notes.txt", "cat/b.TXT", "cat/label.xml", "cat/film.mpg", "LICENSE"):
        if form == "folders":
            (root / "train" / name).write_bytes(b"x")
        else:
            with tarfile.open(next(root.glob("*train*.tar")), "a") as tar:
                add_member(tar, name, b"x")
    for _ in range(2):  # the second time from the index that is kept beside tars
        assert open_data(str(root)).left_out == {".txt": 2, ".xml": 1, ".mpg": 1, "": 1}


# ---- Class folders


@pytest.mark.parametrize("change", ["an image more", "an image less", "an image larger", "a class renamed"])
def test_the_fingerprint_changes_with_the_data(folder, change):
    before = open_data(str(folder))
    assert (before.name, before.classes, before.train.targets.tolist()) == ("pets", ("cat", "dog"), [0] * 6 + [1] * 6)
    image = folder / "train" / "cat" / "000.png"
    if change == "an image more":
        shutil.copy(image, image.with_name("more.png"))
    elif change == "an image less":
        image.unlink()
    elif change == "an image larger":
        image.write_bytes(image.read_bytes() + b"\0")
    else:
        for split in ("train", "validation"):
            (folder / split / "cat").rename(folder / split / "lion")
    assert open_data(str(folder)).fingerprint != before.fingerprint


@pytest.mark.parametrize("of_tars", [False, True])
def test_tars_hold_the_same_data_set_as_their_folders_and_class_tars_stand_for_folders(folder, tmp_path, of_tars):
    root = tmp_path / "tars"
    root.mkdir()
    for split in ("train", "validation"):
        source = folder / split
        if of_tars:
            source = tmp_path / f"packed {split}"
            source.mkdir()
            for name in ("cat", "dog"):
                with tarfile.open(source / f"{name}.tar", "w") as inner:
                    for image in sorted((folder / split / name).iterdir()):
                        inner.add(image, arcname=image.name)
        pack(source, root / f"{split}.tar")
    data, expected = open_data(str(root)), open_data(str(folder))
    assert data.fingerprint == expected.fingerprint
    assert content_of(data) == content_of(expected)


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
    names = [*data.train.names, *data.validation.names]
    assert sorted(names) == sorted(p.relative_to(plain).as_posix() for p in plain.rglob("*.png"))
    for split in (data.train, data.validation):
        for index, name in enumerate(split.names):
            assert split.read(index).tobytes() == Image.open(plain / name).convert("RGB").tobytes()
            assert name.startswith(data.classes[split.targets[index]])
    assert open_validation(f"{plain}?validation_fraction=0.2").validation.names == data.validation.names
    assert open_data(f"{plain}?validation_fraction=0.5").fingerprint != data.fingerprint


def test_validation_takes_class_folders_that_are_named_after_a_split(tmp_path):
    write_pictures(tmp_path, {"bus": 2, "train": 3})
    found = open_validation(str(tmp_path))
    assert (found.classes, len(found.validation)) == (("bus", "train"), 5)


@pytest.mark.parametrize("in_tars", [False, True])
@pytest.mark.parametrize(
    ("choice", "classes"), [("outermost", ("defect", "good")), ("innermost", ("camera_1", "camera_2"))]
)
def test_the_chosen_folder_of_nested_ones_names_the_class(tmp_path, in_tars, choice, classes):
    root = tmp_path / "parts"
    for split in ("train", "val"):
        for name in ("defect", "good"):
            write_pictures(root / split / name, {"camera_1": 2, "camera_2": 1})
        if in_tars:
            pack(root / split, root / f"{split}.tar")
            shutil.rmtree(root / split)
    data = open_data(f"{root}?classes={choice}")
    assert (data.name, data.classes) == (f"parts?classes={choice}", classes)
    for name, target in zip(data.train.names, data.train.targets, strict=True):
        assert classes[target] in name.split("/")
    assert open_validation(f"{root}?classes={choice}").classes == classes


def test_nested_folders_that_agree_need_no_choice(folder):
    for split in ("train", "validation"):
        (folder / split / "dog" / "dog").mkdir()
        for image in list((folder / split / "dog").glob("*.png")):
            image.rename(folder / split / "dog" / "dog" / image.name)
    assert open_data(str(folder)).train.targets.tolist() == [0] * 6 + [1] * 6


# ---- Tars


def test_the_index_of_large_tars_is_kept_and_made_anew_when_tars_or_rules_change(tmp_path, monkeypatch):
    root = write_original_tars(tmp_path / "imagenet")
    first = open_data(str(root))
    files = ["starsearch-index-train.npz", "starsearch-index-validation.npz"]
    assert sorted(path.name for path in root.glob("*starsearch-*")) == files
    with monkeypatch.context() as patched:
        patched.setattr("starsearch.data.sources.tars._files_of", None)  # the tars are not read again
        assert content_of(open_data(str(root))) == content_of(first)
    write_original_tars(root, train=(2, 2, 2))
    assert open_data(str(root)).num_train == 6
    (root / files[0]).write_bytes(b"damaged")
    assert open_data(str(root)).num_train == 6
    with monkeypatch.context() as patched:
        patched.setattr("starsearch.data.sources.tars.image_suffixes", lambda: frozenset({".jpg"}))
        patched.setattr("starsearch.data.sources.tars._files_of", None)
        with pytest.raises(TypeError):
            open_data(str(root))


def test_an_index_that_cannot_be_kept_is_made_each_time(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("numpy.savez", refuse)
    root = write_shards(tmp_path / "imagenet")
    assert open_data(str(root)).num_train == open_data(str(root)).num_train == 18
    assert not list(root.glob("*starsearch-*"))


def test_shards_say_classes_in_json_or_with_precedence_in_cls(tmp_path):
    root = write_shards(tmp_path / "imagenet", shards=1, target="json")
    assert np.bincount(open_data(str(root)).train.targets).tolist() == [5, 6, 7]
    with tarfile.open(root / "imagenet1k-train-0000.tar", "w") as tar:
        for number in range(3):
            members = [(f"./{number}.cls", str(number).encode()), (f"./{number}.json", b'{"label": 7}')]
            for name, content in members if number else members[::-1]:
                add_member(tar, name, content)
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


def test_the_bare_image_of_a_key_is_trained_on_and_its_masks_are_left_out(tmp_path):
    root = write_shards(tmp_path / "imagenet", shards=1)
    expected, shard = open_data(str(root)).fingerprint, root / "imagenet1k-train-0000.tar"
    with tarfile.open(shard) as tar:
        keys = [name.partition(".")[0] for name in tar.getnames() if name.endswith(".jpg")]
    with tarfile.open(shard, "a") as tar:
        for key in keys:
            add_member(tar, f"{key}.seg.png", jpeg("black"))
    data = open_data(str(root))
    assert (data.fingerprint, data.left_out) == (expected, {".seg.png": 18})


# ---- Parquet and names


def test_parquet_takes_its_classes_from_the_metadata_the_paths_or_the_numbers(tmp_path):
    named = open_data(str(write_parquet(tmp_path / "named", names=("tench", "tabby", "banana"))))
    assert named.classes == ("tench", "tabby", "banana")
    assert named.train.names[0] == "train row 0 n01440764_0.JPEG"
    assert open_data(str(write_parquet(tmp_path / "paths", names=None, folder="."))).classes == SYNSETS
    numbered = str(write_parquet(tmp_path / "parquet", names=None, paths=False))
    assert open_data(numbered).classes == open_validation(numbered).classes == ("0", "1", "2")
    assert open_validation(numbered).validation.numbered


@pytest.mark.parametrize("columns", [("img", "fine_label"), ("jpg", "cls")])
def test_parquet_of_bytes_alone_under_another_name_is_read(tmp_path, columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = images("train", (2, 2, 2))
    values = [content for *_, content in rows[:-1]] + [None], [target for _, target, _ in rows]
    for split in ("train", "test"):
        pq.write_table(pa.table(dict(zip(columns, values, strict=True))), tmp_path / f"{split}.parquet")
    train = open_data(str(tmp_path)).train
    assert train.read(4).size == Image.open(io.BytesIO(rows[4][2])).size
    with pytest.raises(OSError, match="the row has no bytes"):
        train.read(5)


def test_a_hugging_face_name_is_read_through_timm_and_its_test_images_validate(tmp_path):
    root = write_parquet(tmp_path / "named", folder=".", names=("tench", "tabby", "banana"))
    for file in root.glob("validation-*"):
        file.rename(root / file.name.replace("validation", "test"))
    data = open_data(f"hfds/{root}@{tmp_path / 'cache'}")
    assert data.classes == ("tench", "tabby", "banana")
    assert content_of(data) == content_of(open_data(str(root)))


def test_torchvisions_data_sets_are_read_through_timm(folder):
    data = open_data(f"torch/folder@{folder}")
    assert (data.classes, data.num_validation) == (("cat", "dog"), 6)
    assert content_of(data) == content_of(open_data(str(folder)))


# ---- Splits that number their classes differently are matched by name


def test_parquet_whose_splits_number_their_classes_differently_is_matched_by_name(tmp_path):
    names = ("tench", "tabby", "banana")
    root = write_parquet(tmp_path / "imagenet", folder=".", names=names)
    reordered = write_parquet(tmp_path / "reordered", folder=".", names=("banana", "tench", "tabby"))
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

    kinds = {"train": ImageFolder, "validation": InReverse}
    monkeypatch.setattr("starsearch.data.sources.named._create", lambda _, __, split: kinds[split](folder / split))
    assert content_of(open_data("torch/pets")) == content_of(open_data(str(folder)))


# ---- Validation images alone


def test_validation_needs_no_training_images(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    (root / TRAIN).unlink()
    folders = write_folders(tmp_path / "folders")
    shutil.rmtree(folders / "train")
    for place in (root, folders, folders / "val"):
        found = open_validation(str(place))
        assert (found.name, found.classes, len(found.validation)) == (place.name, SYNSETS, 12)


@pytest.mark.parametrize("form", ["shards", "parquet"])
def test_validation_takes_the_names_of_its_numbered_classes_from_the_training_images(tmp_path, form):
    root = IMAGENET[form](tmp_path / "imagenet", **({"names": None} if form == "parquet" else {}))
    found = open_validation(str(root))
    assert found.classes == open_data(str(root)).classes == SYNSETS
    assert not found.validation.numbered
    for file in root.rglob("*train-0*"):
        file.unlink()
    alone = open_validation(str(root))
    assert (alone.classes, alone.validation.numbered) == (("0", "1", "2"), True)
    assert alone.validation.targets.tolist() == found.validation.targets.tolist()


def test_validation_does_without_training_images_that_cannot_be_listed(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    (root / "imagenet1k-train-0001.tar").write_bytes(b"")
    assert open_validation(str(root)).validation.numbered


# ---- A kind of data set is a file


STRIPES = """
from functools import partial

import numpy as np
from PIL import Image

from starsearch.data.dataset import SPLITS, Source, Split

FORM = "'stripes:N', N striped images of either of two classes"


def find(asked):
    kind, _, number = asked.path.partition(":")
    if kind != "stripes":
        return None
    return Source(name=asked.path, splits={split: partial(stripes, split, int(number)) for split in SPLITS})


def stripes(name, number):
    targets = np.repeat([0, 1], number)
    pixels = np.zeros((2, 8, 8), dtype=np.uint8)
    pixels[0, ::2] = pixels[1, :, ::2] = 255
    return Split(
        name=name,
        classes=("rows", "columns"),
        targets=targets,
        names=[f"{name} {index}" for index in range(2 * number)],
        content=lambda index: Image.fromarray(pixels[targets[index]]),
        in_memory=True,
    )
"""


def test_a_file_among_the_sources_adds_a_kind_of_data_set(tmp_path, monkeypatch):
    (tmp_path / "stripes.py").write_text(STRIPES)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    data = open_data("stripes:4")
    assert (data.name, data.classes, data.num_train) == ("stripes:4", ("rows", "columns"), 8)
    assert data.train.read(0).getpixel((0, 0)) == (255, 255, 255)
    assert len(open_validation("stripes:4?orientation=stored").validation) == 8
    assert "'stripes:N', N striped images of either of two classes" in sources.forms()

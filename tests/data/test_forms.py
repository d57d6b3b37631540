"""ImageNet as folders, original tars, WebDataset shards and Parquet files is one and the same data set."""

import io
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from starsearch.data import open_data
from starsearch.data.imagenet_tars import DEVKIT, TRAIN, VALIDATION
from starsearch.data.opening import open_validation
from starsearch.errors import DataError
from tests.data.imagenet_like import (
    SYNSETS,
    add_member,
    images,
    jpeg,
    write_devkit,
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


def _content(data):
    """What is in either split, whatever the order: class, pixels."""
    return [
        sorted((data.classes[split.targets[index]], split.read(index).tobytes()) for index in range(len(split)))
        for split in (data.train, data.validation)
    ]


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
    assert _content(data) == written


@pytest.mark.parametrize("form", FORMS)
def test_reading_goes_on_in_other_processes_and_after_pickling(tmp_path, form):
    from torch.utils.data import DataLoader

    train = open_data(str(FORMS[form](tmp_path / "imagenet"))).train
    train.timm_dataset.transform = lambda image: np.asarray(image).sum(dtype=np.int64)
    here = [int(np.asarray(train.read(index)).sum(dtype=np.int64)) for index in range(len(train))]
    loader = DataLoader(train.timm_dataset, batch_size=None, num_workers=2, shuffle=False)
    assert [(int(total), int(target)) for total, target in loader] == list(zip(here, train.targets, strict=True))
    read, name = pickle.loads(pickle.dumps((train.read, train.image_name)))
    assert read(7).tobytes() == train.read(7).tobytes()
    assert name(7) == train.image_name(7)


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
            broken.append(data.train.image_name(index))
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


def test_original_tars_are_the_unpacked_folders_in_order_classes_and_fingerprint(tmp_path):
    of_tars = open_data(str(write_original_tars(tmp_path / "tars")))
    of_folders = open_data(str(write_folders(tmp_path / "folders")))
    assert of_tars.fingerprint == of_folders.fingerprint
    for split in ("train", "validation"):
        tars, folders = getattr(of_tars, split), getattr(of_folders, split)
        assert tars.targets.tolist() == folders.targets.tolist()
        assert [tars.image_name(i) for i in range(len(tars))] == [folders.image_name(i) for i in range(len(folders))]


@pytest.mark.parametrize("missing", [TRAIN, VALIDATION, DEVKIT])
def test_a_missing_original_file_is_named(tmp_path, missing):
    root = write_original_tars(tmp_path / "imagenet")
    (root / missing).unlink()
    there = next(name for name in (TRAIN, VALIDATION) if name != missing)
    with pytest.raises(DataError, match=rf"it lacks {missing} \(.*it has .*{there}.*image-net\.org"):
        open_data(str(root))


def test_validation_needs_no_training_images(tmp_path):
    root = write_original_tars(tmp_path / "imagenet")
    (root / TRAIN).unlink()
    found = open_validation(str(root))
    assert (found.name, found.classes, len(found.split)) == ("imagenet", SYNSETS, 12)
    folders = write_folders(tmp_path / "folders")
    shutil.rmtree(folders / "train")
    for place in (folders, folders / "val"):
        assert open_validation(str(place)).classes == SYNSETS
        assert len(open_validation(str(place)).split) == 12


@pytest.mark.parametrize("write", [write_shards, write_parquet])
def test_validation_takes_the_names_of_its_numbered_classes_from_the_training_images(tmp_path, write):
    root = write(tmp_path / "imagenet", **({"names": None} if write is write_parquet else {}))
    found = open_validation(str(root))
    assert found.classes == open_data(str(root)).classes == SYNSETS
    assert not found.numbered
    for file in root.rglob("*train-0*"):
        file.unlink()
    alone = open_validation(str(root))
    assert (alone.classes, alone.numbered) == (("0", "1", "2"), True)
    assert alone.split.targets.tolist() == found.split.targets.tolist()


def test_validation_does_without_training_images_that_cannot_be_listed(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    (root / "imagenet1k-train-0001.tar").write_bytes(b"")
    assert open_validation(str(root)).numbered


def test_validation_refuses_a_folder_of_nothing_with_the_forms(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match=r"'x' has neither.*holds nothing.*Parquet"):
        open_validation(str(tmp_path / "x"))
    with pytest.raises(DataError, match=r"no data set 'nowhere'"):
        open_validation("nowhere")


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
        ({"data/meta.mat": b"x", "data/ILSVRC2012_validation_ground_truth.txt": b"1"}, "cannot be read: .*Fetch"),
    ],
)
def test_a_devkit_without_its_files_is_refused(tmp_path, members, words):
    root = write_original_tars(tmp_path / "imagenet")
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        for name, content in members.items():
            add_member(tar, f"ILSVRC2012_devkit_t12/{name}", content)
    with pytest.raises(DataError, match=words):
        open_validation(str(root))


def test_a_devkit_that_contradicts_itself_is_refused(tmp_path, monkeypatch):
    root = write_original_tars(tmp_path / "imagenet")
    monkeypatch.setattr("starsearch.data.devkit._leaf_synsets", lambda meta: {1: SYNSETS[0]})
    with pytest.raises(DataError, match=r"says class 2, which its data/meta.mat does not know"):
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
    with pytest.raises(DataError, match="holds no class tars"):
        open_data(str(root))
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    with tarfile.open(root / TRAIN, "w") as tar:
        add_member(tar, "n01440764.tar", empty.getvalue())
    with pytest.raises(DataError, match=r"The class tar n01440764\.tar in .* has no images"):
        open_data(str(root))


def test_the_index_of_large_tars_is_kept_and_made_anew_when_they_change(tmp_path, monkeypatch):
    root = write_original_tars(tmp_path / "imagenet")
    first = open_data(str(root))
    assert sorted(path.name for path in root.glob("starsearch-*")) == [
        "starsearch-index-train.npz",
        "starsearch-index-validation.npz",
    ]
    with monkeypatch.context() as patched:
        patched.setattr("starsearch.data.imagenet_tars.opened_tar", None)  # the tars are not read again
        again = open_data(str(root))
    assert again.fingerprint == first.fingerprint
    assert _content(again) == _content(first)
    write_original_tars(root, train=(2, 2, 2))
    assert open_data(str(root)).num_train == 6
    (root / "starsearch-index-train.npz").write_bytes(b"damaged")
    assert open_data(str(root)).num_train == 6


def test_an_index_that_cannot_be_kept_is_made_each_time(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("starsearch.data.image_index._save", refuse)
    root = write_shards(tmp_path / "imagenet")
    assert open_data(str(root)).num_train == open_data(str(root)).num_train == 18
    assert not list(root.glob("starsearch-*"))


@pytest.mark.parametrize("target", ["cls", "json"])
def test_shards_say_classes_in_cls_or_json(tmp_path, target):
    data = open_data(str(write_shards(tmp_path / "imagenet", target=target)))
    assert data.classes == SYNSETS
    assert np.bincount(data.train.targets).tolist() == [5, 6, 7]
    assert data.train.image_name(0) == "n01440764_0.jpg"


def test_what_cls_says_stands_above_json(tmp_path):
    root = write_shards(tmp_path / "imagenet", shards=1)
    with tarfile.open(root / "imagenet1k-train-0000.tar", "w") as tar:
        for number in range(3):
            said = {"a": str(number).encode(), "b": b'{"label": 7}'}
            order = ("a", "b") if number else ("b", "a")
            for which in order:
                add_member(tar, f"./{number}.{'cls' if which == 'a' else 'json'}", said[which])
            add_member(tar, f"./{number}.seg.png", jpeg(number))
    assert open_data(str(root)).train.targets.tolist() == [0, 1, 2]


def test_shards_may_lie_in_folders_of_the_splits(tmp_path):
    flat = write_shards(tmp_path / "flat")
    for split, folder in (("train", "train"), ("validation", "val")):
        place = tmp_path / "nested" / folder
        place.mkdir(parents=True)
        for number, tar in enumerate(sorted(flat.glob(f"*-{split}-*.tar"))):
            shutil.copy(tar, place / f"{number:05}.tar")
    assert _content(open_data(str(tmp_path / "nested"))) == _content(open_data(str(flat)))


def test_classes_without_names_are_numbers(tmp_path):
    root = str(write_parquet(tmp_path / "parquet", names=None, paths=False))
    assert open_data(root).classes == open_validation(root).classes == ("0", "1", "2")
    assert open_validation(root).numbered


def test_parquet_whose_splits_number_their_classes_differently_is_matched_by_name(tmp_path):
    names = ("tench", "tabby", "banana")
    other = ("banana", "tench", "tabby")
    root = write_parquet(tmp_path / "imagenet", folder=".", names=names)
    reordered = write_parquet(tmp_path / "reordered", folder=".", names=other)
    truth = _content(open_data(str(reordered)))[1]  # both splits in the other order: nothing to be matched
    for file in reordered.glob("validation-*"):
        shutil.copy(file, root)
    data = open_data(str(root))
    assert data.classes == names
    assert _content(data)[1] == truth
    assert [data.validation.timm_dataset[index][1] for index in range(12)] == data.validation.targets.tolist()


def test_shards_whose_splits_number_their_classes_differently_are_matched_by_name(tmp_path):
    for split, numbers in (("train", (0, 1, 2)), ("validation", (2, 0, 1))):
        with tarfile.open(tmp_path / f"imagenet1k-{split}-0000.tar", "w") as tar:
            for synset, number in zip(SYNSETS, numbers, strict=True):
                add_member(tar, f"{synset}_1.cls", str(number).encode())
                add_member(tar, f"{synset}_1.jpg", jpeg(synset))
    data = open_data(str(tmp_path))
    assert data.classes == SYNSETS
    training, validating = _content(data)
    assert validating == training


def test_a_librarys_splits_that_number_their_classes_differently_are_matched_by_name(folder, monkeypatch):
    class InReverse(ImageFolder):  # a library whose validation images count from the last class
        def find_classes(self, directory):
            names = sorted(super().find_classes(directory)[0], reverse=True)
            return names, {name: number for number, name in enumerate(names)}

    plain = open_data(str(folder))
    kinds = {"train": ImageFolder, "validation": InReverse}
    monkeypatch.setattr("starsearch.data.named._create", lambda _, __, split: kinds[split](folder / split))
    data = open_data("torch/pets")
    assert data.classes == plain.classes == ("cat", "dog")
    assert _content(data) == _content(plain)


def test_classes_in_another_order_are_refused_where_two_have_one_name(tmp_path):
    root = write_parquet(tmp_path / "imagenet", names=("crane", "crane", "tabby"))
    assert open_data(str(root)).num_validation == 12  # in one order nothing is to be matched
    other = write_parquet(tmp_path / "other", names=("crane", "tabby", "crane"))
    for file in (other / "data").glob("validation-*"):
        shutil.copy(file, root / "data")
    with pytest.raises(DataError, match="number their classes differently, and more than one class is called 'crane'"):
        open_data(str(root))


def test_a_split_of_fewer_classes_is_refused_also_by_number(tmp_path):
    root = write_parquet(tmp_path / "parquet", names=None, paths=False, validation=(4, 4, 0))
    with pytest.raises(DataError, match="other classes: validation lacks '2'"):
        open_data(str(root))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"a.jpg": b"x"}, r"a in imagenet/imagenet1k-train-0000\.tar has no class: neither a\.cls nor"),
        ({"a.jpg": b"x", "a.json": b'{"width": 3}'}, "a in imagenet/.* has no class"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, r"a\.cls in imagenet/.*as a number from 0; it says b'cat'"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "as a number from 0; it says b'-1'"),
        ({"a.jpg": b"x", "a.json": b"{"}, "a in imagenet/.* has no class"),
        ({"a.jpg": b"x", "a.json": b'{"label": "tench"}'}, "a in imagenet/.* has no class"),
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


@pytest.mark.parametrize("content", ["cut off", "compressed", "empty"])
def test_a_damaged_shard_is_named(tmp_path, content):
    import gzip

    root = write_shards(tmp_path / "imagenet")
    shard = root / "imagenet1k-train-0001.tar"
    whole = shard.read_bytes()
    shard.write_bytes({"cut off": whole[: len(whole) // 2], "compressed": gzip.compress(whole), "empty": b""}[content])
    with pytest.raises(DataError, match=r"imagenet/imagenet1k-train-0001\.tar cannot be read as an uncompressed tar"):
        open_data(str(root))


def test_parquet_takes_its_classes_from_the_metadata_or_the_paths(tmp_path):
    named = open_data(str(write_parquet(tmp_path / "named", names=("tench", "tabby", "banana"))))
    assert named.classes == ("tench", "tabby", "banana")
    assert named.train.image_name(0) == "train-00000-of-00002.parquet row 0 n01440764_0.JPEG"
    assert open_data(str(write_parquet(tmp_path / "paths", names=None))).classes == SYNSETS
    assert open_data(str(write_parquet(tmp_path / "flat", folder="."))).classes == SYNSETS


def test_parquet_of_bytes_alone_under_another_name_is_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split in ("train", "test"):
        rows = images("train", (2, 2, 2))
        table = pa.table({"img": [content for *_, content in rows], "fine_label": [target for _, target, _ in rows]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    data = open_data(str(tmp_path))
    assert (data.num_train, data.num_validation) == (6, 6)
    assert data.train.read(5).size == Image.open(io.BytesIO(images("train", (2, 2, 2))[5][2])).size


def test_a_row_without_bytes_is_an_unreadable_image(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.data.imagenet_like.jpeg", lambda seed, **o: None if str(seed).endswith(" 1") else jpeg(seed, **o)
    )
    data = open_data(str(write_parquet(tmp_path / "imagenet")))
    index = next(i for i in range(data.num_train) if "n01440764_1" in data.train.image_name(i))
    with pytest.raises(OSError, match="no bytes"):
        data.train.read(index)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["a"], "label": [0]}, r"column of images \(image, .*it has text, label"),
        ({"image": [b"x"], "name": ["a"]}, r"one of classes \(label, .*it has image, name"),
        ({"image": [b"x"], "label": [-1]}, "1 images .* have class -1, .*not given away"),
        ({"image": [b"x"], "label": [None]}, "1 rows without a class"),
        ({"image": [b"x"], "label": ["cat"]}, "cannot be read as Parquet"),
        ({"image": [], "label": []}, "no images in the Parquet files of 'imagenet'"),
    ],
)
def test_parquet_that_breaks_the_rules_is_named(tmp_path, columns, words):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = write_parquet(tmp_path / "imagenet", files=1)
    types = {"label": pa.string() if columns.get("label") == ["cat"] else pa.int64(), "image": pa.binary()}
    table = pa.table({name: pa.array(cells, types.get(name, pa.string())) for name, cells in columns.items()})
    pq.write_table(table, root / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=words):
        open_data(str(root))


def _change_second_file(root, change):
    """Let `change` make another table of the second training file's."""
    import pyarrow.parquet as pq

    file = root / "data" / "train-00001-of-00002.parquet"
    pq.write_table(change(pq.read_table(file)), file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns("label"), r"train-00001.* one of classes \(label, .*; it has image"),
        (lambda table: table.drop_columns("image"), r"train-00001.* of images \(image, .*; it has label"),
        (
            lambda table: table.rename_columns(["image", "cls"]),
            "train-00001.* classes in cls, .*train-00000.* in label",
        ),
        (
            lambda table: table.set_column(0, "image", table.column("image").combine_chunks().field("bytes")),
            r"train-00001.* images in image and .*train-00000.* images in image\.bytes with paths and",
        ),
    ],
)
def test_a_further_parquet_file_of_other_columns_is_named(tmp_path, change, words):
    root = write_parquet(tmp_path / "imagenet", names=None)
    _change_second_file(root, change)
    with pytest.raises(DataError, match=words):
        open_data(str(root))


def test_a_further_parquet_file_that_names_its_classes_in_another_order_is_refused(tmp_path):
    root = write_parquet(tmp_path / "imagenet")
    other = write_parquet(tmp_path / "other", names=SYNSETS[::-1])
    shutil.copy(other / "data" / "train-00001-of-00002.parquet", root / "data")
    with pytest.raises(
        DataError, match=r"imagenet/train-00001.* names other classes than train-00000.*, or in another order"
    ):
        open_data(str(root))
    _change_second_file(root, lambda table: table.replace_schema_metadata(None))
    assert open_data(str(root)).classes == SYNSETS, "names that are absent contradict nothing"


def test_parquet_whose_images_have_no_paths_beside_their_bytes_is_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = write_parquet(tmp_path / "imagenet")
    expected = _content(open_data(str(root)))
    for file in (root / "data").iterdir():
        table = pq.read_table(file)
        cells = pa.array([{"bytes": cell["bytes"].as_py()} for cell in table.column("image")])
        pq.write_table(table.set_column(0, "image", cells), file)
    assert _content(open_data(str(root))) == expected


def test_parquet_that_says_more_classes_than_it_names_is_refused(tmp_path):
    with pytest.raises(DataError, match="name 2 classes but say class 2"):
        open_data(str(write_parquet(tmp_path / "imagenet", names=SYNSETS[:2])))


def test_a_damaged_parquet_file_is_named(tmp_path):
    root = write_parquet(tmp_path / "imagenet")
    (root / "data" / "train-00001-of-00002.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"imagenet/train-00001-of-00002\.parquet cannot be read as Parquet: "):
        open_data(str(root))


def test_a_folder_with_one_split_only_is_refused_with_the_forms(tmp_path):
    root = write_shards(tmp_path / "imagenet")
    for shard in root.glob("*-validation-*"):
        shard.unlink()
    with pytest.raises(DataError, match=r"'imagenet' has neither .*it holds imagenet1k-train-0000\.tar.*WebDataset"):
        open_data(str(root))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wds/imagenet", r"by the package 'webdataset', which is not installed: pip install webdataset"),
        (
            "hfds/imagenet",
            r"by the package 'datasets', which is not installed: pip install 'starsearch\[huggingface\]'",
        ),
        ("tfds/mnist", r"by the package 'tensorflow_datasets', which is not installed: pip install tensorflow"),
    ],
)
def test_a_name_whose_library_is_missing_says_what_installs_it(monkeypatch, name, words):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match=words):
        open_data(name)


def test_a_hugging_face_name_is_read_through_timm_and_its_test_images_validate(tmp_path):
    pytest.importorskip("datasets")
    root = write_parquet(tmp_path / "named", folder=".", names=("tench", "tabby", "banana"))
    for file in root.glob("validation-*"):
        file.rename(root / file.name.replace("validation", "test"))
    data = open_data(f"hfds/{root}@{tmp_path / 'cache'}")
    assert data.classes == ("tench", "tabby", "banana")
    assert _content(data) == _content(open_data(str(root)))

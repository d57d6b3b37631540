"""What breaks a rule of data sets is refused where it is opened: what is made, and the words that help."""

import gzip
import shutil
import tarfile
from pathlib import Path

import pytest

from starsearch.data import open_data, open_validation
from starsearch.data.source import DataSource
from starsearch.data.sources.tars import DEVKIT, TRAIN, VALIDATION
from starsearch.errors import DataError
from tests.data.imagenet_like import SYNSETS, add_member, jpeg, write_devkit, write_original_tars, write_parquet
from tests.data.imagenet_like import write_shards as write_all_shards
from tests.data.pictures import LFS_POINTER, pack, write_pictures

SHARD = "imagenet1k-train-0000.tar"
META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


def pets(root, *, train=("cat", "dog"), validation=("cat", "dog"), names=("train", "validation")):
    for name, classes in zip(names, (train, validation), strict=True):
        write_pictures(root / name, dict.fromkeys(classes, 2))
    return root


def nested(root, *, tars=False):
    for split in ("train", "val"):
        for name in ("defect", "good"):
            write_pictures(root / split / name, {"camera_1": 2, "camera_2": 2})
        if tars:
            pack(root / split, root / f"{split}.tar")
            shutil.rmtree(root / split)
    return root


def move_images_out(folder):
    for image in list(folder.rglob("*.png")):
        image.rename(folder / f"{image.parent.name}{image.name}")
    for name in ("cat", "dog"):
        (folder / name).rmdir()


# What makes it in a folder; the folder, unless it returns another place or text.
FOLDERS = [
    (lambda r: "no/such/folder", r"'no/such/folder' names no data set.*train/ and validation/.*Parquet.*train\.tar"),
    (lambda r: "digit", "Did you mean 'digits'"),
    (lambda r: (r / "my_images").mkdir() or r / "my_image", "Did you mean 'my_images'"),
    (lambda r: (r / "a.zip").touch() or r / "a.zip", "is a file"),
    (lambda r: (r / "x").mkdir() or r / "x", "'x' does not hold .*holds nothing"),
    (lambda r: write_pictures(r, {"cat": 1}), "does not hold .*holds cat.*--validation-fraction"),
    (lambda r: shutil.rmtree(pets(r) / "validation"), r"--data .*/train --validation-fraction"),
    (lambda r: (pets(r) / "train" / "bird").mkdir(), "Class folders .*/train/: 'bird'"),
    (lambda r: (pets(r) / "validation" / "bird").mkdir(), "/validation/: 'bird'"),
    (lambda r: pets(r, validation=("cat", "fox")), "validation lacks 'dog'; training lacks 'fox'"),
    (lambda r: pets(r, train=("cat",), validation=("cat",)), "two classes or more; .* has only 'cat'"),
    (lambda r: pets(r, names=("train", "training")), "'train/', 'training/' of .* all mean the train split"),
    (
        lambda r: [file.rename(file.with_suffix(".npy")) for file in list(pets(r).rglob("*.png"))],
        r"no images in the class folders of .*/train/\. There are 4 \.npy files",
    ),
    (
        lambda r: [shutil.copy(pets(r) / "train/cat/000.png", r / "train/stray.png")],
        r"outside of class folders in .*/train/: 'stray\.png'",
    ),
    # Unlabelled test images are no validation images.
    (
        lambda r: move_images_out(pets(r, names=("train", "test")) / "test"),
        r"--data .*/train --validation-fraction 0\.2",
    ),
    (lambda r: (pets(r, names=("train", "test")) / "val").symlink_to("no"), "Links that lead nowhere: 'val'"),
    (lambda r: (pets(r) / "train/bee").symlink_to("nowhere"), "Links that lead nowhere: 'bee'"),
    (
        lambda r: write_pictures(r, {"ant": 1, "bee": 2}) or f"{r}?validation_fraction=0.2",
        "The class 'ant' of .* has one image",
    ),
    (
        nested,
        r"/train.* the outermost \(2 classes, 'defect' with 4 images … 'good' with 4 images\) or .*--classes innermost",
    ),
    (lambda r: nested(r, tars=True), r"/train\.tar .* outermost .*--classes innermost"),
]
OPTIONS = [
    (lambda r: f"{pets(r)}?validation_fraction=0.2", "no splits of their own; .* is read otherwise. Leave it out"),
    (lambda r: "digits?validation_fraction=0.2", "'digits' is read otherwise"),
    (lambda r: "torch/cifar10?classes=outermost", "'torch/cifar10' is read otherwise"),
    (lambda r: f"{write_all_shards(r)}?classes=outermost", "classes says which of nested folders"),
    (lambda r: "x?clases=outermost", r"Unknown option 'clases' of a data set\. Did you mean 'classes'\?"),
    (lambda r: "x?classes=both", "classes is outermost or innermost; got 'both'"),
    (lambda r: "x?orientation", "orientation is exif or stored; got ''"),
    *(
        (lambda r, v=v: f"x?validation_fraction={v}", f"between 0 and 1, such as 0.2; got '{v}'")
        for v in ("1", "nan", "a")
    ),
]


def shard_of(root, members):
    write_all_shards(root, shards=1)
    with tarfile.open(root / SHARD, "w") as tar:
        for name, content in members:
            add_member(tar, name, content)
    return root


def shard_as(root, change):
    file = write_all_shards(root) / "imagenet1k-train-0001.tar"
    file.write_bytes(change(file.read_bytes()))
    return root


def sharing(*names):
    return [(name, b"0" if name.endswith("cls") else jpeg(name)) for name in names]


SHARDS = [
    *(
        (lambda r, members=members: shard_of(r, members.items()), rf"a in .*{SHARD} has no class: neither a\.cls nor")
        for members in (
            {"a.jpg": b"x"},
            {"a.jpg": b"x", "a.json": b'{"width": 3}'},
            {"a.jpg": b"x", "a.json": b"{"},
            {"a.jpg": b"x", "a.json": b'{"label": "tench"}'},
        )
    ),
    (lambda r: shard_of(r, [("a.jpg", b"x"), ("a.cls", b"cat")]), r"a\.cls in .*as a number from 0; it says b'cat'"),
    (lambda r: shard_of(r, [("a.jpg", b"x"), ("a.cls", b"-1")]), "as a number from 0; it says b'-1'"),
    (
        lambda r: shard_of(r, [("a.seg.png", b"x"), ("a.cls", b"0")]),
        r"a\.seg\.png in .* a\.jpg \(or \.png …\) is missing",
    ),
    (lambda r: shard_of(r, [("readme.txt", b"x")]), rf"no images in the shards of .* \({SHARD}"),
    *(
        (lambda r, members=members: shard_of(r, sharing(*members)), rf"{named}.* in .*{SHARD} share the key")
        for members, named in (
            (("a.jpg", "a.png", "a.cls"), "a.jpg and a.png"),
            (("a.image.jpg", "a.mask.png", "a.cls"), "a.image.jpg and a.mask.png"),
            (("p.v1.jpg", "p.v1.cls", "p.v2.jpg", "p.v2.cls"), "p.v1.cls and p.v1.jpg and "),
            (("p.jpg", "p.cls", "p.v2.jpg", "p.v2.cls"), "p.cls and p.jpg and p.v2.cls"),
            (("a.jpg", "a.cls", "a.jpg"), "a.jpg and a.jpg"),
        )
    ),
    *(
        (
            lambda r, change=change: shard_as(r, change),
            rf"-train-0001\.tar cannot be read as an uncomp.*{words}",
        )
        for change, words in (
            (lambda whole: whole[: len(whole) // 2], ""),
            (gzip.compress, ""),
            (lambda _: b"", ""),
            (lambda _: LFS_POINTER, "a pointer of Git LFS"),
        )
    ),
    (
        lambda r: (write_all_shards(r) / "imagenet1k-train-0002.tar").symlink_to("nowhere.tar"),
        r"Links that lead nowhere: 'imagenet1k-train-0002\.tar'",
    ),
    (
        lambda r: [file.unlink() for file in list(write_all_shards(r).glob("*-validation-*"))],
        r"does not hold .*it holds imagenet1k-train-0000\.tar.*WebDataset",
    ),
]


def devkit_of(root, members):
    write_original_tars(root)
    with tarfile.open(root / DEVKIT, "w:gz") as tar:
        for name, content in members.items():
            add_member(tar, f"ILSVRC2012_devkit_t12/{name}", content)
    return root


def cut(file, kept):
    file.write_bytes(file.read_bytes()[:kept])


def only_an_image(root):
    with tarfile.open(root / TRAIN, "w") as tar:
        add_member(tar, "a.JPEG", jpeg(0))


ORIGINALS = [
    *(
        (
            lambda r, missing=missing: (write_original_tars(r) / missing).unlink(),
            rf"it lacks {missing} \(.*it has .*image-net\.org",
        )
        for missing in (TRAIN, VALIDATION, DEVKIT)
    ),
    *(
        (
            lambda r, file=file, kept=kept: cut(write_original_tars(r) / file, kept),
            rf"/{file} cannot be read as a.* tar: .*etch it again",
        )
        for file, kept in ((TRAIN, 2_000), (VALIDATION, 2_000), (DEVKIT, 200), (TRAIN, 0))
    ),
    (lambda r: only_an_image(write_original_tars(r)), f"outside of class folders in .*{TRAIN}"),
    (
        lambda r: write_devkit(write_original_tars(r) / DEVKIT, [0, 1, 2]),
        rf"{VALIDATION} holds 12 images but {DEVKIT} tells the classes of 3",
    ),
    (
        lambda r: write_devkit(write_original_tars(r) / DEVKIT, [0, 1, 2] * 4, unknown=True),
        "cannot be read together: KeyError 9",
    ),
    (lambda r: devkit_of(r, {}), f"does not hold {META} and {TRUTH}"),
    (lambda r: devkit_of(r, {META: b"x"}), f"does not hold {TRUTH}"),
    (lambda r: devkit_of(r, {META: b"x", TRUTH: b"1"}), "cannot be read together: .*Fetch"),
]


def parquet_of(root, columns, *, label="int64"):
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"label": getattr(pa, label)(), "image": pa.binary()}
    cells = {name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()}
    pq.write_table(pa.table(cells), write_parquet(root, files=1) / "data" / "train-00000-of-00001.parquet")
    return root


def second_file(root, change):
    import pyarrow.parquet as pq

    file = write_parquet(root, names=None) / "data" / "train-00001-of-00002.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    return root


def other_names(root):
    other = write_parquet(root / "other", names=SYNSETS[::-1])
    shutil.copy(other / "data" / "train-00001-of-00002.parquet", write_parquet(root / "imagenet") / "data")
    return root / "imagenet"


PARQUET = [
    (lambda r: parquet_of(r, {"text": ["a"], "label": [0]}), r"column of images \(image, .*it has text, label"),
    (lambda r: parquet_of(r, {"image": [b"x"], "name": ["a"]}), r"one of classes \(label, .*it has image, name"),
    (lambda r: parquet_of(r, {"image": [b"x"], "label": [-1]}), "1 images .* have class -1, .*not given away"),
    (lambda r: parquet_of(r, {"image": [b"x"], "label": [None]}), "label .* must hold a number for each image"),
    (lambda r: parquet_of(r, {"image": [b"x"], "label": ["cat"]}, label="string"), "must hold a number for each"),
    (lambda r: parquet_of(r, {"image": [], "label": []}), "train-00000.* cannot be read"),
    (lambda r: second_file(r, lambda t: t.drop_columns("label")), r"train-00001.* one of classes .*; it has image"),
    (lambda r: second_file(r, lambda t: t.drop_columns("image")), r"train-00001.* of images .*; it has label"),
    (
        lambda r: second_file(r, lambda t: t.rename_columns(["image", "cls"])),
        "train-00001.* image and cls, train-00000.* image and label",
    ),
    (other_names, r"imagenet/train-00001.* names other classes than train-00000.*, or in another order"),
    (lambda r: write_parquet(r, names=SYNSETS[:2]), "name 2 classes but say class 2"),
    (
        lambda r: write_parquet(r, names=None, paths=False, validation=(4, 4, 0)),
        "different classes: validation lacks '2'",
    ),
    *(
        (
            lambda r, content=content: (write_parquet(r) / "data/train-00001-of-00002.parquet").write_bytes(content),
            rf"/train-00001-of-00002\.parquet cannot be read as Parquet: {words}",
        )
        for content, words in ((b"nothing of the kind", ".*Parquet magic"), (LFS_POINTER, "a pointer of Git"))
    ),
]


VALIDATION_ALONE = [
    (lambda r: "nowhere", "'nowhere' names no data set", open_validation),
    (lambda r: shutil.rmtree(pets(r) / "validation"), "does not hold .*it holds train", open_validation),
    (lambda r: devkit_of(r, {}), f"does not hold {META}", open_validation),
]


@pytest.mark.parametrize(
    ("make", "words", "reader"),
    [*((*row, open_data) for row in (*FOLDERS, *OPTIONS, *SHARDS, *ORIGINALS, *PARQUET)), *VALIDATION_ALONE],
)
def test_what_breaks_a_rule_is_refused_in_words_that_help(tmp_path, make, words, reader):
    made = make(tmp_path)
    with pytest.raises(DataError, match=words):
        reader(str(made if isinstance(made, str | Path) else tmp_path))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("wds/imagenet", "'webdataset', which is not installed: pip install webdataset"),
        ("hfds/imagenet", r"'datasets', which is not installed: pip install 'starnet-search\[huggingface\]'"),
        ("tfds/mnist", "'tensorflow_datasets', which is not installed: pip install tensorflow"),
        (None, r"The Parquet data set .* by the package 'datasets'.*starnet-search\[huggingface\]"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(tmp_path, monkeypatch, data, words):
    for module in ("named", "parquet"):
        monkeypatch.setattr(f"starsearch.data.sources.{module}.find_spec", lambda _: None)
    with pytest.raises(DataError, match=words):
        open_data(data or str(write_parquet(tmp_path)))


def test_an_unknown_timm_name_is_refused_with_the_librarys_own_words():
    with pytest.raises(DataError, match=r"'torch/cifar99' \(train\): Unknown torchvision dataset cifar99"):
        open_data("torch/cifar99")


def test_options_are_written_and_read_alike(folder, monkeypatch):
    text = "photos?validation_fraction=0.2&classes=outermost&orientation=exif"
    assert str(DataSource.parse(text)) == text
    assert DataSource.parse("photos?orientation=stored&validation_fraction=.20") == DataSource(
        path="photos", validation_fraction=0.2, orientation="stored"
    )
    assert DataSource.parse("a/b") == DataSource(path="a/b")
    monkeypatch.chdir(folder.parent)
    assert DataSource.parse("pets?classes=innermost").absolute() == f"{folder}?classes=innermost"
    assert DataSource.parse("torch/cifar10?orientation=exif").absolute() == "torch/cifar10?orientation=exif"

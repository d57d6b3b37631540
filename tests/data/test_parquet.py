"""Parquet files as the Hugging Face hub has them: their columns, their classes, and what breaks their rules."""

import io
import shutil

import pytest
from PIL import Image

from starsearch.data import open_data
from starsearch.errors import DataError
from tests.data.imagenet_like import SYNSETS, content_of, images, jpeg, write_parquet
from tests.data.pictures import LFS_POINTER


def test_parquet_takes_its_classes_from_the_metadata_or_the_paths(tmp_path):
    named = open_data(str(write_parquet(tmp_path / "named", names=("tench", "tabby", "banana"))))
    assert named.classes == ("tench", "tabby", "banana")
    assert named.train.names[0] == "train row 0 n01440764_0.JPEG"
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
    index = next(i for i in range(data.num_train) if "n01440764_1" in data.train.names[i])
    with pytest.raises(OSError, match="no bytes"):
        data.train.read(index)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["a"], "label": [0]}, r"column of images \(image, .*it has text, label"),
        ({"image": [b"x"], "name": ["a"]}, r"one of classes \(label, .*it has image, name"),
        ({"image": [b"x"], "label": [-1]}, "1 images .* have class -1, .*not given away"),
        ({"image": [b"x"], "label": [None]}, "label .* must hold a number for each image"),
        ({"image": [b"x"], "label": ["cat"]}, "must hold a number for each image"),
        ({"image": [], "label": []}, "imagenet/train-00000.* cannot be read"),
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
            "train-00001.* image and cls, train-00000.* image and label",
        ),
        (
            lambda table: table.set_column(0, "image", table.column("image").combine_chunks().field("bytes")),
            r"cannot be read: Couldn't cast",
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
    expected = content_of(open_data(str(root)))
    for file in (root / "data").iterdir():
        table = pq.read_table(file)
        cells = pa.array([{"bytes": cell["bytes"].as_py()} for cell in table.column("image")])
        pq.write_table(table.set_column(0, "image", cells), file)
    assert content_of(open_data(str(root))) == expected


def test_parquet_that_says_more_classes_than_it_names_is_refused(tmp_path):
    with pytest.raises(DataError, match="name 2 classes but say class 2"):
        open_data(str(write_parquet(tmp_path / "imagenet", names=SYNSETS[:2])))


@pytest.mark.parametrize(
    ("content", "words"), [(b"nothing of the kind", "Parquet magic bytes"), (LFS_POINTER, "a pointer of Git LFS")]
)
def test_a_damaged_parquet_file_is_named(tmp_path, content, words):
    root = write_parquet(tmp_path / "imagenet")
    (root / "data" / "train-00001-of-00002.parquet").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"imagenet/train-00001-of-00002\.parquet cannot be read as Parquet: .*{words}"
    ):
        open_data(str(root))

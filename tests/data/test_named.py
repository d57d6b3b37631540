"""Data sets by a library's name, read through timm."""

import pytest

from starsearch.data import open_data
from starsearch.errors import DataError
from tests.data.imagenet_like import content_of, write_parquet


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wds/imagenet", r"by the package 'webdataset', which is not installed: pip install webdataset"),
        (
            "hfds/imagenet",
            r"by the package 'datasets', which is not installed: pip install 'starnet-search.huggingface",
        ),
        ("tfds/mnist", r"by the package 'tensorflow_datasets', which is not installed: pip install tensorflow"),
    ],
)
def test_a_name_whose_library_is_missing_says_what_installs_it(monkeypatch, name, words):
    for module in ("named", "parquet"):
        monkeypatch.setattr(f"starsearch.data.sources.{module}.find_spec", lambda _: None)
    with pytest.raises(DataError, match=words):
        open_data(name)


def test_a_hugging_face_name_is_read_through_timm_and_its_test_images_validate(tmp_path):
    pytest.importorskip("datasets")
    root = write_parquet(tmp_path / "named", folder=".", names=("tench", "tabby", "banana"))
    for file in root.glob("validation-*"):
        file.rename(root / file.name.replace("validation", "test"))
    data = open_data(f"hfds/{root}@{tmp_path / 'cache'}")
    assert data.classes == ("tench", "tabby", "banana")
    assert content_of(data) == content_of(open_data(str(root)))

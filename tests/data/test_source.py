"""The text of a data set: a path, and the options it is read with."""

import pytest

from starsearch.data.source import DataSource
from starsearch.errors import DataError


def test_a_text_without_options_is_the_path_alone():
    assert DataSource.parse("a/b") == DataSource(path="a/b")
    assert str(DataSource(path="a/b")) == "a/b"


def test_options_are_written_and_read_alike():
    text = "photos?validation_fraction=0.2&classes=outermost&orientation=exif"
    source = DataSource.parse(text)
    assert (source.path, source.validation_fraction) == ("photos", 0.2)
    assert (source.classes, source.orientation) == ("outermost", "exif")
    assert str(source) == text
    assert DataSource.parse("photos?orientation=stored&validation_fraction=.20") == DataSource(
        path="photos", validation_fraction=0.2, orientation="stored"
    )


def test_only_the_path_becomes_whole(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert DataSource.parse("pets?classes=innermost").absolute() == f"{folder}?classes=innermost"
    assert DataSource.parse("torch/cifar10?orientation=exif").absolute() == "torch/cifar10?orientation=exif"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("clases=outermost", r"Unknown option 'clases' of a data set\. Did you mean 'classes'\?"),
        ("classes=both", "classes is outermost or innermost; got 'both'"),
        ("orientation", "orientation is exif or stored; got ''"),
        ("validation_fraction=1", "validation_fraction is a number between 0 and 1, such as 0.2; got '1'"),
        ("validation_fraction=nan", "got 'nan'"),
        ("validation_fraction=a", "got 'a'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, words):
    with pytest.raises(DataError, match=words):
        DataSource.parse(f"photos?{options}")

import pytest

from tests.data.pictures import write_pictures


@pytest.fixture
def folder(tmp_path):
    """A data set "pets" of 12 + 6 pictures in folders."""
    write_pictures(tmp_path / "pets" / "train", {"cat": 6, "dog": 6})
    write_pictures(tmp_path / "pets" / "validation", {"cat": 3, "dog": 3})
    return tmp_path / "pets"

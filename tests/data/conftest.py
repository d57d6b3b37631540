import pytest
import torch

from tests.data.pictures import write_pictures


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Tiny images gain nothing by threads, which stand in each other's way on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path):
    """A data set "pets" of 12 + 6 pictures in folders."""
    write_pictures(tmp_path / "pets" / "train", {"cat": 6, "dog": 6})
    write_pictures(tmp_path / "pets" / "validation", {"cat": 3, "dog": 3})
    return tmp_path / "pets"

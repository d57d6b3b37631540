import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Networks of a few channels gain nothing by threads, which stand in each other's way on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

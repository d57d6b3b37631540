import dataclasses
import platform

import onnxruntime
import pytest

from starsearch.latency import device as module
from starsearch.latency.device import Device, device_fingerprint, processor_name, vector_width

DEVICE = Device(processor="AMD EPYC 9R14", cores=2, threads=1, runtime="onnxruntime 1.31.1", optimization="all")


def test_the_text_is_short_and_counts_threads():
    assert DEVICE.text == "AMD EPYC 9R14, 1 thread, onnxruntime 1.31.1"
    assert dataclasses.replace(DEVICE, threads=4).text == "AMD EPYC 9R14, 4 threads, onnxruntime 1.31.1"


def test_the_fingerprint_is_this_machine_without_its_name():
    device = device_fingerprint(threads=2)
    assert device == device_fingerprint(threads=2)
    assert (device.threads, device.runtime) == (2, f"onnxruntime {onnxruntime.__version__}")
    assert device.cores >= 1
    assert device.system.split() == [platform.system(), platform.machine()]
    assert platform.node() not in dataclasses.astuple(device)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"processor": "Apple M4"}, ("processor: 'AMD EPYC 9R14' against 'Apple M4'",)),
        ({"threads": 2}, ("threads: 1 against 2",)),
        ({"cores": 64, "governor": None, "system": "Darwin arm64"}, ()),
    ],
)
def test_differences_are_what_makes_latencies_incomparable(change, differs):
    assert DEVICE.differences(dataclasses.replace(DEVICE, **change)) == differs


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Linux's list of processors and name of the board, neither of which is there yet."""
    for name in ("CPUINFO", "BOARD"):
        monkeypatch.setattr(module, name, tmp_path / name)
    return tmp_path / "CPUINFO", tmp_path / "BOARD"


def test_the_processor_is_read_from_linux_or_the_board(files):
    cpuinfo, board = files
    assert processor_name()
    board.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert processor_name() == "Raspberry Pi 5 Model B Rev 1.0"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU  E5-2680 v4 @ 2.40GHz\nflags\t: fpu\n")
    assert processor_name() == "Intel Xeon CPU E5-2680 v4 @ 2.40GHz"


@pytest.mark.parametrize(
    ("flags", "machine", "width"),
    [
        ("fpu avx avx2 avx512f avx512_vnni", "x86_64", 16),
        ("fpu avx avx2", "x86_64", 8),
        ("fp asimd", "aarch64", 4),
        (None, "AMD64", 8),
    ],
)
def test_the_vector_width_follows_the_processors_flags(files, monkeypatch, flags, machine, width):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if flags is not None:
        files[0].write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n")
    assert vector_width() == width

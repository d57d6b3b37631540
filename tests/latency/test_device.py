import dataclasses
import platform

import onnxruntime
import pytest

from starsearch.latency.device import Device, device_fingerprint, processor_name

DEVICE = Device(
    processor="AMD EPYC 9R14",
    cores=2,
    threads=1,
    runtime="onnxruntime 1.31.1",
    optimization="all",
    governor="performance",
    system="Linux x86_64",
)


def test_the_text_is_short_and_counts_threads():
    assert DEVICE.text == "AMD EPYC 9R14, 1 thread, onnxruntime 1.31.1"
    assert dataclasses.replace(DEVICE, threads=4).text == "AMD EPYC 9R14, 4 threads, onnxruntime 1.31.1"


def test_the_fingerprint_is_this_machine_without_its_name():
    device = device_fingerprint(threads=2)
    assert device == device_fingerprint(threads=2)
    assert device.threads == 2
    assert device.cores >= 1
    assert device.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert device.system.split() == [platform.system(), platform.machine()]
    assert platform.node() not in dataclasses.astuple(device)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"processor": "Apple M4"}, ("processor: 'AMD EPYC 9R14' against 'Apple M4'",)),
        ({"threads": 2}, ("threads: 1 against 2",)),
        ({"runtime": "onnxruntime 1.32.0"}, ("runtime: 'onnxruntime 1.31.1' against 'onnxruntime 1.32.0'",)),
        ({"cores": 64, "governor": None, "system": "Darwin arm64"}, ()),
    ],
)
def test_differences_are_what_makes_latencies_incomparable(change, differs):
    assert DEVICE.differences(dataclasses.replace(DEVICE, **change)) == differs


def test_the_processor_is_read_from_linux_or_the_board(tmp_path):
    cpuinfo, board, missing = tmp_path / "cpuinfo", tmp_path / "model", tmp_path / "missing"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU  E5-2680 v4 @ 2.40GHz\nflags\t: fpu\n")
    board.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert processor_name(cpuinfo, board) == "Intel Xeon CPU E5-2680 v4 @ 2.40GHz"
    assert processor_name(missing, board) == "Raspberry Pi 5 Model B Rev 1.0"
    assert processor_name(missing, missing)

"""Prints by how many bytes this process grew at most while ONNX Runtime loaded a file and ran it: `… FILE.onnx`.

It runs in a process of its own and imports nothing but ONNX Runtime and NumPy before it begins to count.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RUNS = 3  # ONNX Runtime plans its memory in the first and takes it in the second


def resident_bytes(key: str) -> int:
    """Return this process's resident memory: "VmRSS" as it is now, "VmHWM" at most."""
    if _STATUS.is_file():
        found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
        return 1024 * int(found.split()[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes, and the most so far in either case


def main(file: str) -> None:
    """Load the network, one thread as latencies are measured, run it on noise, and print the growth."""
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")  # Linux: the most from here on
    before = resident_bytes("VmRSS")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    image = np.random.default_rng(0).standard_normal(node.shape, dtype=np.float32)
    for _ in range(_RUNS):
        session.run(None, {node.name: image})
    print(resident_bytes("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1])

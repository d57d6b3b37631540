"""How much room the deployed network takes: as a file, and in memory while ONNX Runtime runs it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.measurement import Measurement
from starsearch.resolution import Resolution

PEAK_MEMORY, FILE_SIZE = "peak_memory_mb", "file_size_mb"
FOOTPRINT = (PEAK_MEMORY, FILE_SIZE)
_MB = 1e6
_PROCESSES = 3  # they differ by a percent or two
_LONGEST_S = 300


def measure_footprint(
    architecture: Architecture, names: Sequence[str], *, resolution: Resolution, num_classes: int
) -> list[Measurement]:
    """Return those of `FOOTPRINT` that are named, of the ONNX file in float32 as it is exported; about a second.

    Peak memory is by how much a process that has imported ONNX Runtime grows at most while it loads the file and runs
    one image on one thread: the median of three processes. Weights do not matter, and are random.
    """
    from starsearch.latency.backends.networks import as_onnx
    from starsearch.latency.device import device_fingerprint
    from starsearch.latency.lock import computing

    if not names:
        return []
    with computing(), tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        file, rng = Path(folder) / "model.onnx", np.random.default_rng(0)
        file.write_bytes(as_onnx(architecture, resolution=resolution, num_classes=num_classes, rng=rng))
        found = [Measurement(name=FILE_SIZE, value=file.stat().st_size / _MB)]
        if PEAK_MEMORY in names:
            taken = [_peak_memory_mb(file) for _ in range(_PROCESSES)]
            found.append(
                Measurement(
                    name=PEAK_MEMORY,
                    value=statistics.median(taken),
                    runs=_PROCESSES,
                    spread=statistics.stdev(taken) / _PROCESSES**0.5,
                    device=device_fingerprint().text,
                )
            )
    return [one for one in found if one.name in names]


def _peak_memory_mb(file: Path) -> float:
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py")), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LONGEST_S)  # noqa: S603 - own
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise EvaluationError(f"The memory that the network takes cannot be measured: {said}") from error
    return int(done.stdout) / _MB

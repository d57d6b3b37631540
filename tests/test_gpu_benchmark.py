import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "studies" / "benchmarks" / "gpu" / "gpu.py"


@pytest.mark.slow
def test_the_benchmark_of_gpus_can_be_rehearsed_without_one(tmp_path):
    command = [sys.executable, str(SCRIPT), "--cpu", "--rounds", "1", "--out", str(tmp_path / "gpu.csv")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    table = pd.read_csv(tmp_path / "gpu.csv")
    assert len(table) == 7
    assert (table[["ours", "other", "ratio"]] > 0).all(axis=None)

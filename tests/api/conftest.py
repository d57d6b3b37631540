"""A tiny study on the embedded digits, run once by the real command line."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.cli.conftest import starsearch  # noqa: F401 # a fixture
from tests.command_line import fresh_starsearch

TINY_SPACE = """\
resolution: 64
dimensions:
  embed_dim: [8, 16]
  depths: [1, 1, {low: 1, high: 3}, 1]
  ops: {each: [star, sum]}
  activation: [none, one]
  mlp_ratio: [2, 3]
anchors: [starnet_s050]
"""
TINY_STUDY = """\
space: tiny.yaml
fidelities: [{resolution: 32, epochs: 1, samples: 300, validation_samples: 200, recipe: digits}]
search: {trials: 3, sampler: tpe, seed: 1}
"""


# Where latency is not what a test is about: nothing to calibrate, nothing to stand still for.
UNTIMED = "objectives: {top1_percent: maximize, macs: minimize}\n"


def write_tiny_files(folder: Path, more: str = "") -> None:
    (folder / "tiny.yaml").write_text(TINY_SPACE)
    (folder / "few.yaml").write_text(TINY_STUDY + more)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Path:
    """A folder in which `starsearch run few.yaml` has ended; the study is studies/few.

    Run once, in a fresh interpreter; each of the test processes has a copy of its own.
    """
    everybodys = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    folder = everybodys / "run"
    with FileLock(everybodys / "run.lock"):
        if not (folder / "stdout.txt").exists():
            _run_few(folder)
    return shutil.copytree(folder, tmp_path_factory.mktemp("run") / "own")


def _run_few(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_tiny_files(folder)
    done = fresh_starsearch("run", "few.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)

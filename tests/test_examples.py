"""The examples run, with small budgets."""

import json
from pathlib import Path

import pytest

from tests.command_line import python

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"EPOCHS": "1", "SEEDS": "2"}


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("own_evaluator.py", ["--trials", "6"], "architecture_text"),
        ("latency.py", ["starnet:embed_dim=8,depths=1-1-1-1"], "all sums: "),
        pytest.param("search.py", ["--trials", "1"], "Written: ", marks=pytest.mark.slow),
    ],
)
def test_a_script_runs(tmp_path, script, arguments, words):
    done = python(EXAMPLES / script, *arguments, cwd=tmp_path, environment=SMALL)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_the_notebooks_cells_run_in_their_order(tmp_path):
    cells = json.loads((EXAMPLES / "star_against_sum.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = python("-c", code, cwd=tmp_path, environment=SMALL)
    assert done.returncode == 0, done.stderr
    assert "over 2 seeds" in done.stdout

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import starsearch

ROOT = Path(__file__).parent.parent


def _run(code):
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_starsearch_imports_nothing_heavy():
    loaded = _run("import sys; bare = set(sys.modules); import starsearch; print(*sorted(set(sys.modules) - bare))")
    roots = {name.partition(".")[0] for name in loaded.split()}
    assert not roots & {
        "torch",
        "timm",
        "numpy",
        "onnx",
        "onnxruntime",
        "optuna",
        "pandas",
        "plotly",
        "pydantic",
        "ray",
    }
    assert len(loaded.split()) < 30


@pytest.mark.parametrize(
    "imports",
    [
        "import timm, starsearch",
        "import starsearch.models, timm",
        "import starsearch, timm.layers, json, html.parser",
    ],
)
def test_timm_knows_our_networks_in_any_order_of_imports(imports):
    code = f"""
{imports}
import sys, timm
print(timm.is_model("starsearch_starnet"), timm.__spec__.origin.endswith("__init__.py"))
print([finder for finder in sys.meta_path if type(finder).__module__ == "starsearch"])
"""
    assert _run(code).split() == ["True", "True", "[]"]


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert starsearch.__version__ == project["version"]

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import starsearch
from tests.command_line import python

ROOT = Path(__file__).parent.parent


def _run(code):
    finished = python("-c", code)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_starsearch_imports_nothing_heavy():
    loaded = _run("import sys; bare = set(sys.modules); import starsearch; print(*sorted(set(sys.modules) - bare))")
    heavy = {"torch", "timm", "numpy", "onnx", "onnxruntime", "optuna", "pandas", "plotly", "pydantic", "ray"}
    assert not {name.partition(".")[0] for name in loaded.split()} & heavy
    assert len(loaded.split()) < 30


@pytest.mark.parametrize("imports", ["starsearch.timm_models, timm", "timm, starsearch.timm_models"])
def test_timm_knows_our_networks_once_they_are_imported(imports):
    assert _run(f"import {imports}; print(timm.is_model('starsearch_starnet'))") == "True"


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert starsearch.__version__ == project["version"]


def test_every_library_that_the_package_imports_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (one for name, more in project["optional-dependencies"].items() if name != "dev" for one in more)
    declared = {_normalized(re.split(r"[\[<>=!~; ]", one)[0]) for one in (*project["dependencies"], *extras)}
    providers = packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in (ROOT / "starsearch").rglob("*.py")
        for module in _imported(path) - sys.stdlib_module_names - {"starsearch"}
        if not {_normalized(name) for name in providers.get(module, [module])} & declared
    }
    assert not undeclared
    assert "platformdirs" in declared, "moocore imports it, and does not declare it in every version"


def _imported(path):
    """The top-level names of the modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | parts}


def _normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()

import importlib.util
import sys

import pytest

from starsearch.errors import ExportError
from starsearch.export import formats as package
from starsearch.export.format import write_format
from starsearch.export.formats import find_formats, formats
from tests.command_line import python
from tests.export.networks import exportable, settled_model, write

SMALL = "starnet:embed_dim=8,depths=1-1-1"

TOY = '''
"""The number of parameters."""

from starsearch.errors import ExportError
from starsearch.export.format import Format


def write(network, path):
    path.write_text(f"{count(network)}")
    return ()


def read_back(network, path):
    if path.read_text() != f"{count(network)}":
        raise ExportError("Another network.")
    return ("read back",)


def count(network):
    return sum(parameter.numel() for parameter in network.model.parameters())


FORMATS = (Format(name="toy", help="a number", file="model.toy", write=write, read_back=read_back),)
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A format of its own, which is one file."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "toy.py").write_text(TOY)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "more")])
    yield
    sys.modules.pop("starsearch.export.formats.toy", None)


def test_a_format_is_added_by_one_file(toy, tmp_path):
    model = settled_model(SMALL)
    assert write(model, "toy", tmp_path / "out") == ["model.toy: read back"]
    write(model, "timm", tmp_path / "out")  # knows the file as one of an export's, and replaces the folder
    assert not (tmp_path / "out" / "model.toy").exists()
    shown = (
        "from starsearch.export import formats; formats.__path__.append(__import__('sys').argv.pop())\n"
        "from starsearch.cli import main; main()"
    )
    done = python("-c", shown, "export", "--help", tmp_path / "more", environment={"COLUMNS": "200"})
    assert "toy, a number" in done.stdout, done.stderr


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(ExportError, match=r"Did you mean 'onnx-int8'.*Known: timm, .*onnx, onnx-int8"):
        find_formats(["onnx_int8"])
    assert [form.name for form in find_formats(["onnx", "timm"])] == ["timm", "onnx"]  # the whole folder first


@pytest.mark.parametrize("name", ["onnx", "timm"])
def test_a_file_that_computes_something_else_is_refused_and_leaves_the_old_one(name, tmp_path):
    model, out = settled_model(SMALL), tmp_path / "out"
    write(model, name, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    model.norm.eps = 1.0  # kept by no file
    with pytest.raises(ExportError, match="differ from the"):
        write_format(exportable(model), formats()[name], out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "module"), [("openvino", "openvino"), ("litert", "litert_torch"), ("executorch", "executorch")]
)
def test_a_format_of_another_projects_library_runs_or_says_what_to_install(name, module, tmp_path):
    model = settled_model(SMALL, resolution=32)
    if importlib.util.find_spec(module) is None:
        with pytest.raises(ExportError, match=f"{name} needs .*: pip install {module.replace('_', '-')}, best in an"):
            write(model, name, tmp_path / "out")
        return
    (note,) = write(model, name, tmp_path / "out")
    assert "logits within" in note
    assert {path.name for path in (tmp_path / "out" / name).iterdir()} >= {"about.json", "run.py"}

"""What a user gets who installs the wheel and works in an empty folder."""

import re
import zipfile
from pathlib import Path

import pytest

from tests.command_line import python


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel's contents, as pip would lay them."""
    pytest.importorskip("hatchling.build", reason="hatchling builds the wheel; it is in the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    assert python("-c", code, folder).returncode == 0
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_spaces_runners_and_recipes_are_found_by_name_from_a_wheel_in_an_empty_folder(installed, tmp_path):
    code = (
        "import starsearch, sys\n"
        "from starsearch.resources import shipped_names\n"
        "from starsearch.study.study_file import load_study\n"
        "assert starsearch.__file__.startswith(sys.argv[1]), starsearch.__file__\n"
        "for kind in ('spaces', 'runners', 'recipes'):\n"
        "    print(kind, *shipped_names(kind))\n"
        "print(load_study('starnet').space.anchors)\n"
    )
    environment = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = python("-c", code, installed, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "spaces demonet starnet starnet-wide" in done.stdout
    assert "runners imagenet-8gpu imagenet-cluster local ray" in done.stdout
    assert "starnet-imagenet" in done.stdout
    assert "starnet_s4" in done.stdout


def test_the_wheel_is_not_another_projects_on_pypi_and_nothing_in_it_says_to_install_that(installed):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    assert "Name: starnet-search\n" in metadata.read_text(encoding="utf-8")
    (commands,) = installed.glob("*.dist-info/entry_points.txt")
    assert "starsearch = starsearch.cli:main" in commands.read_text(encoding="utf-8")
    files = [path for path in (installed / "starsearch").rglob("*") if path.suffix in (".py", ".yaml")]
    assert not [path for path in files if re.search(r"pip install ['\"]?starsearch", path.read_text(encoding="utf-8"))]


def test_the_wheel_is_typed_and_carries_no_tests(installed):
    assert (installed / "starsearch" / "py.typed").exists()
    assert not (installed / "tests").exists()

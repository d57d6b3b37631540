"""The documentation names what is there."""

import importlib
import re
from pathlib import Path

import pytest
import typer
import yaml

from starsearch.cli.app import app
from starsearch.study.study_file import load_specs

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
NAMED = re.compile(r"`((?:[\w-]+/)*[\w-]+\.py)(?:: ([\w.]+))?`")


@pytest.mark.parametrize("guide", ["architecture.md", "extending.md"])
def test_every_file_and_name_that_a_guide_to_the_code_mentions_exists(guide):
    named = NAMED.findall((ROOT / "docs" / guide).read_text(encoding="utf-8"))
    assert len(named) > 10
    for path, name in named:
        if "NAME" in path:
            continue
        file = ROOT / "starsearch" / path
        assert file.is_file(), path
        if name:
            last = name.rsplit(".", 1)[-1]
            assert re.search(rf"(?m)^\s*(def|class) {last}\b|^{last}\b.*=", file.read_text(encoding="utf-8")), (
                path,
                name,
            )


def test_spaces_and_studies_in_the_guide_are_read(tmp_path, monkeypatch):
    (tmp_path / "spaces").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "spaces" / "starnet.yaml").write_text((ROOT / "spaces" / "starnet.yaml").read_text())
    monkeypatch.chdir(tmp_path / "a" / "b")
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if re.search("(?m)^(space|dimensions):", block)
    ]
    assert len(blocks) == 2
    for block in blocks:
        assert load_specs(yaml.safe_load(block), data="digits")


def test_the_command_reference_has_every_command_and_option(monkeypatch):
    """Against Click's own tree of the command line."""
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(ROOT / "docs")
    page = importlib.import_module("generate").commands_page()

    def commands(command, name):
        yield name, command
        for below, one in getattr(command, "commands", {}).items():
            yield from commands(one, f"{name} {below}")

    found = dict(commands(typer.main.get_command(app), "starsearch"))
    assert len(found) > 20
    sections = dict(zip(*[iter(re.split(r"(?m)^#+ `(.+)`$", page)[1:])] * 2, strict=True))
    assert set(sections) | {"starsearch"} == set(found)
    for name, section in sections.items():
        for option in (option for one in found[name].params for option in one.opts if option.startswith("--")):
            assert option in section, (name, option)


def test_links_between_the_pages_lead_somewhere():
    for guide in [*GUIDES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", guide.read_text(encoding="utf-8")):
            generated = link in ("reference/commands.md", "reference/files.md")
            assert generated or (guide.parent / link).exists(), (guide.name, link)

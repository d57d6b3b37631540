"""The pages of the documentation that are written from the code: commands and YAML files (an MkDocs hook)."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

KINDS = {
    "space": "the architectures that are searched",
    "study": "a space with data, objectives, fidelities and a budget",
    "recipe": "how networks are trained",
    "runner": "where candidates are evaluated",
    "profile": "what a device's layers cost; written by `starsearch latency fit`",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, write in (("reference/commands.md", commands_page), ("reference/files.md", files_page)):
        files.append(File.generated(config, path, content=write()))
    return files


def commands_page() -> str:
    """Every command with its arguments and options, as its `--help` says them."""
    import typer
    from typer.cli import get_docs_for_click

    from starsearch.cli.app import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="starsearch", title="Commands")
    sections = re.split(r"(?m)^(?=#+ `)", text)
    return "".join(linked(section, command) for section in sections)


def linked(section: str, command: Any) -> str:
    """A section whose list of commands leads to theirs, with their whole first sentences."""
    heading = re.match(r"#+ `(.+)`", section)
    above = heading[1].split() if heading else ["starsearch"]
    for name in above[1:]:
        command = command.commands[name]

    def link(found: re.Match[str]) -> str:
        what = " ".join(command.commands[found[1]].help.split("\n\n")[0].split())
        return f"* [`{found[1]}`](#{'-'.join([*above, found[1]])}): {what}"

    return re.sub(r"(?m)^\* `(\w[\w-]*)`: .*$", link, section)


def files_page() -> str:
    """Every key of every kind of YAML file, from the models that read them."""
    from starsearch.cli.schema import file_schema

    lines = ["# YAML files", "", "`starsearch schema KIND` prints the JSON schema of each, for editors.", ""]
    for kind, what in KINDS.items():
        document = file_schema(kind)
        lines += [f"## A {kind} file", "", f"It says {what}.", ""]
        definitions = document.pop("$defs", {})
        for name, model in {"": document, **definitions}.items():
            lines += model_lines(name, model, f"{kind}-")
    return "\n".join(lines)


def model_lines(name: str, model: dict[str, Any], prefix: str) -> list[str]:
    """One model: its description and a table of its keys."""
    if "properties" not in model or "Range_" in name:
        return []
    lines = [f"### {name} {{ #{prefix}{name.lower()} }}", ""] if name else []
    if model.get("description"):
        lines += [model["description"].split("\n\n")[0].replace("\n", " "), ""]
    lines += ["| key | value | default | |", "|---|---|---|---|"]
    for key, field in model["properties"].items():
        default = "required" if key in model.get("required", []) else cell(field.get("default", ""))
        lines.append(f"| `{key}` | {type_of(field, prefix)} | {default} | {field.get('description', '')} |")
    return [*lines, ""]


def type_of(field: dict[str, Any], prefix: str) -> str:
    """The values a key takes, in words."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        if "Range_" in name:
            return "a range, `{low: …, high: …, step: …, log: …}`"
        return f"[{name}](#{prefix}{name.lower()})"
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            return " or ".join(dict.fromkeys(type_of(one, prefix) for one in field[union]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{one}`" for one in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}), prefix)}"
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return f"mapping to {type_of(values, prefix)}" if isinstance(values, dict) else "mapping"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = " ".join(f"{sign} {field[bound]:g}" for bound, sign in bounds.items() if bound in field)
    return f"{field.get('type', 'any')} {limits}".strip()


def cell(value: object) -> str:
    """A default as YAML has it."""
    return "" if value in ("", None, {}, []) else f"`{value}`"

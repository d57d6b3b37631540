"""`starsearch schema`: what a file may say, for editors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from starsearch.cli.show import print_json

Kind = Literal["study", "space", "recipe", "runner", "profile"]


def schema(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="Which file: study, space, recipe, runner or profile.")],
) -> None:
    """Print the JSON schema of a kind of file, by which an editor completes and checks it.

    Save it, and name it in the file's first line, `# yaml-language-server: $schema=study.schema.json`.

    Examples:

        starsearch schema study > study.schema.json
    """
    print_json(file_schema(kind))


def file_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON schema of a kind of file."""
    from pydantic import TypeAdapter

    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.recipe import Recipe
    from starsearch.study.runner_file import Runner
    from starsearch.study.space_file import SpaceFile
    from starsearch.study.study_file import StudyFile

    kinds: dict[str, Any] = {
        "study": StudyFile,
        "space": SpaceFile,
        "recipe": Recipe,
        "runner": Runner,
        "profile": DeviceProfile,
    }
    schema = TypeAdapter(kinds[kind]).json_schema()
    if kind == "profile":  # its samples are a CSV file beside it, and its name is the file's
        schema["properties"]["samples"] = {"title": "Samples", "type": "string"}
        schema["required"] = [name for name in schema["required"] if name not in ("name", "samples")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"starsearch {kind}", **schema}

"""`starsearch schema`: what a file may say, for editors."""

from __future__ import annotations

from typing import Annotated, Literal

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
    from starsearch.api.schemas import file_schema

    print_json(file_schema(kind))

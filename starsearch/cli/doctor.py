"""`starsearch doctor`: what this machine has and lacks."""

from __future__ import annotations

import typer

from starsearch.cli.options import Json
from starsearch.cli.show import print_facts, print_json


def doctor(json: Json = False) -> None:
    """Say what this machine has for starsearch and what it lacks, and what to do about that.

    Processor, memory, disk of the current folder, GPUs, ONNX Runtime, Core ML, Ray, libraries. It ends with exit code 1
    if something that every study needs does not work.
    """
    from starsearch.api.doctor import examine

    found = examine()
    if json:
        print_json(found)
    else:
        print_facts({one.name: f"{one.found}\n→ {one.advice}" if one.advice else one.found for one in found})
    if not all(one.works for one in found):
        raise typer.Exit(1)

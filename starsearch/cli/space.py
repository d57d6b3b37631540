"""`starsearch space`: look at a search space without training anything."""

from __future__ import annotations

from typing import Annotated

import typer

from starsearch.cli.options import Json
from starsearch.cli.show import print_json, say

app = typer.Typer(help="Look at a search space: its dimensions, its size, samples of it.", no_args_is_help=True)

File = Annotated[str, typer.Argument(metavar="SPACE.yaml", help="A space file, or a shipped space's name.")]


@app.command()
def show(file: File, json: Json = False) -> None:
    """Print the dimensions, the exact number of architectures, and which anchors lie in the space."""
    from starsearch.api.spaces import describe_space
    from starsearch.cli.studies import print_space

    found = describe_space(file)
    print_json(found) if json else print_space(found)


@app.command()
def sample(
    file: File,
    n: Annotated[int, typer.Option("-n", min=1, help="How many architectures.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    json: Json = False,
) -> None:
    """Print random architectures that the constraints allow, with their costs."""
    from starsearch.api.spaces import sample_space

    found = sample_space(file, count=n, seed=seed)
    if json:
        print_json(found)
        return
    for row in found:
        say(
            f"{row['hash']} {row['macs'] / 1e6:8.1f} MMACs {row['num_params'] / 1e6:6.2f} M params  "
            f"{row['architecture']}"
        )
    note = "MACs and parameters with 1000 classes, as papers count; a study's tables have the data's own."
    say(note, error=True)  # scripts read the lines on stdout


@app.command()
def check(file: File) -> None:
    """Say whether a space or study file is valid, and what is wrong with it where it is not."""
    from starsearch.api.spaces import check_file

    typer.echo(check_file(file))

"""`starsearch space`: look at a search space without training anything."""

from __future__ import annotations

from typing import Annotated

import typer

from starsearch.cli.options import Json

app = typer.Typer(help="Look at a search space: its dimensions, its size, samples of it.", no_args_is_help=True)

File = Annotated[str, typer.Argument(metavar="SPACE.yaml", help="A space file, or a shipped space's name.")]


@app.command()
def show(file: File, json: Json = False) -> None:
    """Print the dimensions, the exact number of architectures, and which anchors lie in the space."""
    from starsearch import api
    from starsearch.cli.printing import print_space
    from starsearch.cli.show import print_json

    found = api.describe_space(file)
    print_json(found) if json else print_space(found)


@app.command()
def sample(
    file: File,
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: Json = False,
) -> None:
    """Print random architectures that the constraints allow, with their costs."""
    from starsearch import api
    from starsearch.cli.printing import print_samples
    from starsearch.cli.show import print_json

    found = api.sample_space(file, count=n, seed=seed)
    print_json(found) if json else print_samples(found)


@app.command()
def check(file: File) -> None:
    """Say whether a space or study file is valid, and what is wrong with it where it is not."""
    from starsearch import api

    typer.echo(api.check_file(file))

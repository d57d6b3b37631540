"""`starsearch latency`: measure a network on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Measure latency on this machine.", no_args_is_help=True)


@app.callback()
def latency() -> None:
    """Measure latency on this machine."""


@app.command()
def measure(
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="ARCH", help="starnet_s1, starnet:embed_dim=24,depths=2-2-8-3,ops=sum, a YAML file, or STUDY:TRIAL"
        ),
    ],
    resolution: Annotated[int, typer.Option(min=32, max=1024, help="Height and width of the image.")] = 224,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Measure one network, batch 1, one thread, in pairs with a reference network."""
    from starsearch import api
    from starsearch.cli.printing import print_json, print_latency

    found = api.measure_architecture(architecture, resolution=resolution)
    print_json(found) if json else print_latency(found)

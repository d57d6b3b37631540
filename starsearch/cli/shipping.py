"""`starsearch ship`: a network of a study trained in full, compared, and made into files for the product."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer

from starsearch.cli.options import (
    Epochs,
    OptionalData,
    Runner,
    Study,
    Weights,
    Workers,
    milliseconds,
    pixels,
    takes_data,
)
from starsearch.cli.show import print_table, say, table
from starsearch.errors import TrainingStoppedError
from starsearch.export.formats import formats as known_formats
from starsearch.signals import asked_to_stop


@takes_data
def ship(
    study: Study,
    out: Annotated[Path, typer.Option(help="Folder to make; with several networks it holds a folder for each.")],
    data: OptionalData = None,
    trial: Annotated[int | None, typer.Option(min=0, help="This trial.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")] = False,
    max_latency: Annotated[
        str | None, typer.Option(metavar="MS", help="The most accurate trial that takes at most so long: 5ms.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The K most accurate networks of the front.")] = None,
    against: Annotated[
        str, typer.Option(metavar="NAME,…", help="Models of timm's, compared after the same recipe from scratch.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each network.")] = 3,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe file, or a shipped one's name. Without it: the trial's.")
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(min=2, max=65_536, help="Images a step, not the recipe's.")] = None,
    resolution: Annotated[str | None, pixels("To train and export at. Without it: the trial's.", high=1024)] = None,
    weights: Weights = None,
    formats: Annotated[
        str,
        typer.Option("--format", help=f"Comma-separated: {', '.join(known_formats())}. Without it: all that can be."),
    ] = "",
    workers: Workers = None,
    runner: Runner = None,
) -> None:
    """Train a study's network in full beside timm's, say which is better, and write it for the product.

    Every network is trained by one recipe over several seeds and timed on this machine. The folder holds the network
    in every format that can be written here, each read back and checked, scripts that classify a picture, the verdict
    and checksums. The same command resumes what was interrupted; the trainings lie in OUT.trainings.

    Examples:

        starsearch ship studies/starnet --knee --out product

        starsearch ship studies/flowers --data flowers/ --max-latency 5ms --epochs 100 --against
        mobilenetv4_conv_small,mobilenetv3_large_100 --out product
    """
    from starsearch.api.shipping import ship
    from starsearch.cli.training import training_view
    from starsearch.report.verdict import verdict_cells

    try:
        with asked_to_stop() as stop:
            found = ship(
                study,
                out=out,
                data=data,
                trial=trial,
                knee=knee,
                top=top,
                max_latency_ms=None if max_latency is None else milliseconds(max_latency),
                against=[name for name in against.split(",") if name.strip()],
                seeds=seeds,
                formats=[name.strip() for name in formats.split(",") if name.strip()],
                runner=runner,
                view=lambda title, job: training_view(title, job=job),
                is_asked_to_stop=stop.is_set,
                say=say,
                recipe=recipe,
                resolution=resolution,
                weights=weights,
                epochs=epochs,
                batch_size=batch_size,
                hardware={"workers": workers},
            )
    except TrainingStoppedError as stopped:
        say(f"{stopped} Nothing is lost; the same command resumes it.")
        return
    for one in found:
        cells = verdict_cells(one.table)
        print_table(table(cells, [(heading, itemgetter(heading)) for heading in cells[0]]))
        files = ", ".join(sorted(path.name for path in one.folder.iterdir()))
        say(*one.notes, "", one.source, f"  in {one.folder}: {files}")
    say(f"Each was read back and checked against the network. Begin with {found[0].folder / 'README.md'}.")

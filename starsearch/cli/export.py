"""`starsearch export`: networks as files that others load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starsearch.cli.options import pixels
from starsearch.export.formats import formats as known_formats

_FORMATS = "; ".join(f"{form.name}, {form.help}" for form in known_formats().values())


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A study's folder, STUDY:TRIAL, a training's folder (trainings/X), or an architecture "
            "(starnet_s1, one line, a YAML file) with --weights; without them it is exported untrained.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; with several networks it holds a folder for each.")],
    trial: Annotated[int | None, typer.Option(min=0, help="This trial.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="The K most accurate networks of the front.")] = None,
    formats: Annotated[str, typer.Option("--format", help=f"Comma-separated: {_FORMATS}.")] = "timm",
    weights: Annotated[Path | None, typer.Option(help="A file of weights for an architecture.")] = None,
    resolution: Annotated[str | None, pixels("Of its images. Without it: as it was trained, or 224.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The data set it was trained on, to calibrate onnx-int8 on; without it: found by its name. An "
            "untrained architecture takes its classes from it."
        ),
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Let ONNX files take any number of images at once.")
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME",
            help="Put the folder on the Hugging Face hub too, into a new repository, private until you publish it.",
        ),
    ] = None,
    pad: Annotated[
        bool,
        typer.Option(
            "--pad/--no-pad", help="Pad an ONNX file's channels with zeros, where that measures faster on this machine."
        ),
    ] = True,
) -> None:
    """Write networks as timm folders, ONNX files or Core ML packages; each is read back and checked.

    Beside them lie a model card and a script that classifies a picture.

    Examples:

        starsearch export studies/starnet --knee --format timm,onnx --out best

        starsearch export studies/cifar10 --top 3 --format onnx,onnx-int8 --data cifar10/ --out best

        starsearch export trainings/starnet_s1 --format onnx --dynamic-batch --out best

        starsearch export starnet_s1 --weights starnet_s1.pth.tar --format coreml --out best
    """
    from starsearch.api.exporting import export_networks
    from starsearch.cli.show import say

    found = export_networks(
        source,
        out=out,
        trial=trial,
        knee=knee,
        top=top,
        weights=weights,
        resolution=resolution,
        formats=[name.strip() for name in formats.split(",")],
        data=data,
        pad=pad,
        dynamic_batch=dynamic_batch,
        push_to_hub=push_to_hub,
    )
    for one in found:
        say(f"{one.source}: {one.architecture}")
        say(*(f"  {line}" for line in (*one.files, *one.notes, *([one.load] if one.load else []))))
    say("Each was read back and checked against the model.")

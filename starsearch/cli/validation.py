"""`starsearch validate`: top-1 and top-5 of a trained network by timm's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starsearch.cli.options import Json, pixels, takes_data

_MOST_NAMED = 10  # unreadable images; JSON has all


@takes_data
def validate(
    network: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="starnet_s1 … starnet_s4 (published weights), timm:NAME, an architecture with --weights, STUDY:TRIAL, "
            "a folder that `starsearch export` or `starsearch train` wrote, a file of weights "
            "(.safetensors, .pth, .pth.tar), or FILE.onnx.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="A data set as for `starsearch run`, of which the validation images suffice, or a folder of "
            "class folders."
        ),
    ],
    weights: Annotated[Path | None, typer.Option(help="A file of weights for an architecture or timm:NAME.")] = None,
    resolution: Annotated[str | None, pixels("Without it: the model's own, of StarNet 224.")] = None,
    crop_pct: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Share of the side that is kept. Without it: the model's own, or 0.875."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=65_536, help="Images at once.")] = 128,
    device: Annotated[str | None, typer.Option(help="Of torch. Without it: a GPU where there is one.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=256, help="Processes that decode. Without it: one a core, at most 8.")
    ] = None,
    json: Json = False,
) -> None:
    """Validate a trained network by timm's protocol: resize, crop the middle, normalise; top-1 and top-5.

    A network of ImageNet's 1,000 classes is also validated on a folder of
    some of them, called by synset: it chooses among those. Images that
    cannot be read are left out and named.

    Examples:

        starsearch validate starnet_s1 --data imagenet/

        starsearch validate starnet_s1 --weights starnet_s1.pth.tar --data imagenet/val

        starsearch validate timm:mobilenetv3_small_100 --data imagenet/ --batch-size 256

        starsearch validate best/model.onnx --data cifar10/ --json
    """
    from starsearch.api.validation import validate
    from starsearch.cli.live import bar
    from starsearch.cli.show import print_facts, print_json, say

    with bar() as watch:
        found = validate(
            network,
            data,
            weights=weights,
            resolution=resolution,
            crop_pct=crop_pct,
            batch_size=batch_size,
            device=device,
            workers=workers,
            watch=watch,
        )
    if json:
        print_json(found)
        return
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (found.mean, found.std))
    print_facts(
        {
            "network": found.network,
            "data": f"{found.data}, {found.num_images:,} images of {found.num_classes:,} classes",
            "top-1": f"{found.top1_percent:.3f} ± {found.top1_percent_spread:.3f} %",
            **({"top-5": f"{found.top5_percent:.3f} %"} if found.num_classes > 5 else {}),
            "prepared": f"{found.resolution} px, {found.crop_pct:g} of the side, {found.interpolation}, mean {mean}, "
            f"std {std}",
            "speed": f"{found.images_per_second:,.0f} images/s, decoding included ({found.device})",
        }
    )
    say(*(f"note: {note}" for note in found.notes))
    if found.unreadable:
        say(f"Left out, since they cannot be read: {len(found.unreadable):,} images", style="yellow")
        say(*(f"  {name}" for name in found.unreadable[:_MOST_NAMED]))
        if len(found.unreadable) > _MOST_NAMED:
            say("  … (--json names all)")

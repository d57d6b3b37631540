"""`starsearch latency`: latencies on this machine, or on a device attached to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from starsearch.cli.options import Json

app = typer.Typer(
    help="Measure latency; calibrate, predict from and check device profiles; import figures measured elsewhere.",
    no_args_is_help=True,
)

# Written out, since the registry's module would load NumPy before `--help` is printed; a test holds the two equal.
BackendName = Literal[
    "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "coreml", "coreml-iphone", "torch-eager"
]
ComputeUnitsName = Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"]


@app.callback()
def latency() -> None:
    """Measure latency; calibrate, predict from and check device profiles; import figures measured elsewhere."""


@app.command()
def measure(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="starnet_s1, starnet:embed_dim=24,depths=2-2-8-3,ops=sum, a YAML file, STUDY:TRIAL, FILE.onnx "
            "(inputs of fixed shape), or timm:NAME (any timm model).",
        ),
    ],
    backend: Annotated[BackendName, typer.Option(help="What runs it.")] = "onnxruntime-cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the processor that it may use.")] = 1,
    pairs: Annotated[
        int,
        typer.Option(min=2, max=100_000, help="At most this many; in a pair it and the reference run 12 times each."),
    ] = 12,  # of `PairLimits`, as the width
    width: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="Stop when the 95 % interval is ± this many percent; 0: take all pairs."),
    ] = 1.0,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=32, max=4096, help="Height and width of the image; by default STUDY's, a timm model's, or 224."
        ),
    ] = None,
    compute_units: Annotated[ComputeUnitsName, typer.Option(help="That Core ML may use.")] = "all",
    development_team: Annotated[
        str, typer.Option(help="Apple's id of yours; Xcode signs the app on the iPhone with it.")
    ] = "",
    json: Json = False,
) -> None:
    """Measure one network, batch 1, in pairs with a reference network (StarNet-S1 at 224 px).

    The two run in turns; the latency is the median ratio of their times
    × the reference's calibrated time. Ratios hold to about a percent where
    a machine's own speed wanders by five. On one thread its CPU time counts,
    which other programs hardly disturb. Architectures and timm models get
    random weights: those do not matter. What disturbed a measurement is said,
    and with Core ML which processor it runs the operations on.

    Examples:

        starsearch latency measure starnet_s1

        starsearch latency measure timm:mobilenetv3_small_100 --threads 2

        starsearch latency measure best/model.onnx --pairs 100 --width 0.3

        starsearch latency measure studies/starnet:7 --backend torch-eager --json
    """
    from starsearch import api
    from starsearch.cli.backend_tables import print_placement
    from starsearch.cli.live import bar
    from starsearch.cli.printing import print_latency
    from starsearch.cli.show import print_json
    from starsearch.latency import DEFAULT_LIMITS, MeasureSpec

    spec = MeasureSpec(
        backend=backend,
        threads=threads,
        compute_units=compute_units,
        development_team=development_team,
        limits=replace(
            DEFAULT_LIMITS,
            min_pairs=min(DEFAULT_LIMITS.min_pairs, pairs),
            max_pairs=pairs,
            half_width=width / 100,
        ),
    )
    with bar() as watch:
        found = api.measure_architecture(network, resolution=resolution, spec=spec, watch=watch)
    if json:
        print_json(found)
        return
    print_latency(found)
    if found["placement"] is not None:
        print_placement(found["placement"])


@app.command()
def backends(
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts: what is missing, or null.")] = False,
) -> None:
    """List what networks can be measured with, and what this machine lacks for each."""
    from starsearch.cli.backend_tables import print_backends
    from starsearch.cli.show import print_json
    from starsearch.latency.backends import missing_by_backend

    found = missing_by_backend()
    print_json(found) if json else print_backends(found)

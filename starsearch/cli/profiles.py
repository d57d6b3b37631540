"""`starsearch latency fit | kit | predict | check`: device profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from starsearch.cli.latency import BackendName, ComputeUnitsName
from starsearch.cli.options import Json

_SPACE = typer.Option(metavar="SPACE.yaml", help="Networks are drawn from it: a file, or a shipped space's name.")


def fit(
    out: Annotated[
        Path, typer.Option(metavar="PROFILE.yaml", help="Written there, the samples beside it as CSV.")
    ] = Path("profile.yaml"),
    budget: Annotated[int, typer.Option(min=1, max=100_000, help="Networks to measure.")] = 50,
    space: Annotated[str, _SPACE] = "starnet",
    base: Annotated[
        str | None, typer.Option("--from", metavar="PROFILE", help="Adapt a similar device's: 5 to 10 networks do.")
    ] = None,
    backend: Annotated[BackendName, typer.Option(help="What runs the networks.")] = "onnxruntime-cpu",
    threads: Annotated[int, typer.Option(min=1, help="Of the processor that a network uses.")] = 1,
    compute_units: Annotated[ComputeUnitsName, typer.Option(help="That Core ML may use.")] = "all",
    measurements: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Measure nothing: columns architecture, ms, as measured elsewhere."),
    ] = None,
    device: Annotated[str, typer.Option(help="With --measurements: what was measured, in your words.")] = "",
    resolution: Annotated[
        int | None, typer.Option(min=32, max=4096, help="With --measurements: of the image; by default FILE's, or 224.")
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=2, max=100_000, help="Of a network with the reference at most; more on a noisy machine.")
    ] = 20,  # of `LIMITS`
    json: Json = False,
) -> None:
    """Calibrate a device: measure networks that tell its layers' costs apart, fit, and say the held-out error.

    Fifty networks take about two minutes on a laptop and predict the space's networks to about 2 %. What was measured
    is kept as it comes: after Ctrl-C the same command goes on. The profile is one YAML file and one CSV file to share.

    Examples:

        starsearch latency fit --out laptop.yaml

        starsearch latency fit --out laptop-2.yaml --threads 2 --from laptop.yaml --budget 10

        starsearch latency fit --out pixel.yaml --measurements pixel.csv --device "Pixel 8" --from laptop.yaml
    """
    from starsearch import api
    from starsearch.cli.live import bar
    from starsearch.cli.profile_tables import print_profile, profile_facts
    from starsearch.cli.show import print_json
    from starsearch.errors import SpecError
    from starsearch.latency import MeasureSpec
    from starsearch.latency.calibration import LIMITS

    notes: tuple[str, ...] = ()
    if measurements is not None:
        if not device:
            raise SpecError('Say what was measured: --device "Pixel 8, Android 16, ONNX Runtime 1.22".')
        profile = api.profile_of_measurements(measurements, out, device=device, resolution=resolution, base=base)
    else:
        if device or resolution:
            raise SpecError("--device and --resolution go with --measurements; here the space says the resolution.")
        limits = replace(LIMITS, min_pairs=min(LIMITS.min_pairs, pairs), max_pairs=pairs)
        spec = MeasureSpec(backend=backend, threads=threads, compute_units=compute_units, limits=limits)
        try:
            with bar() as watch:
                profile, notes = api.calibrate_device(
                    out, budget=budget, space=space, spec=spec, base=base, watch=watch
                )
        except KeyboardInterrupt:
            typer.echo("What has been measured is kept; the same command goes on from there.", err=True)
            raise
    print_json({**profile_facts(profile), "notes": notes}) if json else print_profile(profile, out, notes)


def kit(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Made; what lies there is not written over.")] = Path(
        "kit"
    ),
    count: Annotated[int, typer.Option(min=5, max=1_000, help="Networks: 8 make a profile, 5 adapt one.")] = 10,
    space: Annotated[str, _SPACE] = "starnet",
    json: Json = False,
) -> None:
    """Write networks to be timed on a device that cannot run starsearch, and the CSV to fill in.

    ONNX files, with coremltools installed also Core ML packages, and a README that says how to time them. What was
    filled in becomes a profile with: starsearch latency fit --measurements FOLDER/measurements.csv.

    Example:

        starsearch latency kit --space spaces/starnet.yaml --count 10 --out kit/
    """
    from starsearch import api
    from starsearch.cli.show import print_json

    files = [str(path) for path in api.write_kit(out, count=count, space=space)]
    if json:
        print_json({"files": files})
        return
    fit_it = f'starsearch latency fit --out phone.yaml --measurements {out}/measurements.csv --device "Phone, runtime"'
    typer.echo(
        f"{len(files)} files in {out}. Time the networks as {out}/README.md says and fill in the column ms, then:"
    )
    typer.echo(f"  {fit_it}")


def predict(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A profile's file, or a shipped one: iphone, p100 …")
    ],
    networks: Annotated[
        list[str], typer.Argument(metavar="ARCH...", help="Names, one-line texts, YAML files, or STUDY:TRIAL.")
    ],
    resolution: Annotated[
        int | None,
        typer.Option(min=32, max=4096, help="Pixels of the image; by default STUDY's, else the profile's."),
    ] = None,
    json: Json = False,
) -> None:
    """Predict latencies on a profile's device, with 90 % prediction intervals; nothing is measured.

    A network with a layer the profile has no term for is refused: what a profile has not seen it does not guess.

    Examples:

        starsearch latency predict laptop.yaml starnet_s1 starnet:embed_dim=32,depths=1-2-6-2

        starsearch latency predict iphone starnet_s1 starnet_s4
    """
    from starsearch import api
    from starsearch.cli.profile_tables import prediction_facts, print_predictions
    from starsearch.cli.show import print_json

    found = api.predict_architectures(profile, networks, resolution=resolution)
    print_json(prediction_facts(*found)) if json else print_predictions(*found)


def import_(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Its folder, or NAME@STORAGE-URL.")],
    measurements: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Columns architecture and ms; optionally pairs, spread_ms.")
    ],
    device: Annotated[
        str, typer.Option(help="Label of the latency (phone, for latency_ms@phone), or its profile's name.")
    ],
    json: Json = False,
) -> None:
    """Bring latencies measured elsewhere (a phone, by any app) into a study: they replace what was predicted.

    The networks to measure are those of the study's front.csv, whose column architecture_text is what the file's column
    architecture takes. With a label that the study does not know they stand beside its own as latency_ms@LABEL.

    Example:

        starsearch latency import studies/starnet phone.csv --device phone
    """
    from dataclasses import asdict

    from starsearch import api
    from starsearch.cli.profile_tables import print_import
    from starsearch.cli.show import print_json

    found = api.import_measurements(study, measurements, device=device)
    print_json(asdict(found)) if json else print_import(found)


def check(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's file.")],
    networks: Annotated[int, typer.Option(min=5, max=10_000, help="Random networks to measure.")] = 10,
    space: Annotated[str, _SPACE] = "starnet",
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 1_000_003,
    json: Json = False,
) -> None:
    """Measure fresh random networks here and say whether the profile still holds on this machine.

    It does not hold when more networks lie outside their 90 % intervals than chance explains (1 in 100), or when all
    are off by more than 5 %. Exit code 1 then, so that a script can act.
    """
    from starsearch import api
    from starsearch.cli.live import bar
    from starsearch.cli.profile_tables import check_facts, print_check
    from starsearch.cli.show import print_json

    with bar() as watch:
        outcome = api.check_profile(profile, networks=networks, space=space, seed=seed, watch=watch)
    print_json(check_facts(outcome)) if json else print_check(outcome)
    if not outcome.check.holds:
        raise typer.Exit(code=1)

"""`starsearch latency`: measure on this machine or a device attached to it; calibrate and use device profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from starsearch.cli.options import Json, Space, Study, pixels
from starsearch.cli.show import print_facts, print_json, print_table, say, table
from starsearch.errors import SpecError, counted
from starsearch.latency.backends.backend import BACKENDS, BackendOptions, ComputeUnits, missing_by_backend
from starsearch.resolution import area

if TYPE_CHECKING:
    from starsearch.latency.prediction.profile import DeviceProfile

    BackendName = str
else:
    BackendName = Literal[tuple(BACKENDS)]

app = typer.Typer(
    help="Measure latency; calibrate, predict from and check device profiles; import figures measured elsewhere.",
    no_args_is_help=True,
)

_SHOWN = 10  # operations on the CPU; the most expensive say it


def _pairs(words: str) -> Any:
    return typer.Option(min=2, max=100_000, help=f"At most so many pairs with the reference network; {words}")


Backend = Annotated[BackendName, typer.Option(help="What runs the networks.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads that a network may use.")]
Units = Annotated[ComputeUnits, typer.Option(help="What Core ML may use.")]
Team = Annotated[str, typer.Option(help="Your Apple team id; Xcode signs the app on the iPhone with it.")]


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
    backend: Backend = "onnxruntime-cpu",
    threads: Threads = 1,
    pairs: Annotated[int, _pairs("it and the reference run 12 times each in one.")] = 12,  # as `DEFAULT_LIMITS`
    width: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="Stop when the 95 % interval is ± this many percent; 0: take all pairs."),
    ] = 1.0,
    resolution: Annotated[str | None, pixels("By default STUDY's, a timm model's, or 224.")] = None,
    compute_units: Units = "all",
    development_team: Team = "",
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
    from starsearch.api.latency import measure_latency
    from starsearch.cli.live import bar
    from starsearch.latency.measure import MeasureSpec
    from starsearch.latency.paired import DEFAULT_LIMITS

    least = min(DEFAULT_LIMITS.min_pairs, pairs)
    limits = replace(DEFAULT_LIMITS, min_pairs=least, max_pairs=pairs, half_width=width / 100)
    options = BackendOptions(threads=threads, compute_units=compute_units, development_team=development_team)
    with bar() as watch:
        found = measure_latency(
            network,
            resolution=resolution,
            spec=MeasureSpec(backend=backend, options=options, limits=limits),
            watch=watch,
        )
    if json:
        print_json(found)
        return
    size = f" at {found['resolution']} px" if found["resolution"] else ""
    macs = f", {found['macs'] / 1e6:.1f} MMACs with {found['num_classes']} classes" if found["macs"] is not None else ""
    low, high = found["latency_ms_interval"]
    say(
        f"{found['architecture']}{size}: {found['latency_ms']:.3f} ± {found['latency_ms_spread']:.3f} ms "
        f"({found['pairs']} pairs{macs})",
        f"95 % interval {low:.3f} to {high:.3f} ms; {found['ratio']:.3f} × the reference network",
        f"on {found['device']}; the reference network takes {found['reference_ms']:.3f} ms",
        *(f"note: {note}" for note in found["notes"]),
        *_placement_lines(found["placement"]),
    )


@app.command()
def backends(
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts: what is missing, or null.")] = False,
) -> None:
    """List what networks can be measured with, and what this machine lacks for each."""
    found = missing_by_backend()
    lines = {name: f"not here: {lacks}" if lacks else "ready" for name, lacks in found.items()}
    print_json(found) if json else print_facts(lines)


@app.command()
def fit(
    out: Annotated[
        Path, typer.Option(metavar="PROFILE.yaml", help="Where it is written, the samples beside it as CSV.")
    ] = Path("profile.yaml"),
    budget: Annotated[int, typer.Option(min=1, max=100_000, help="How many networks to measure.")] = 50,
    space: Space = "starnet",
    base: Annotated[
        str | None, typer.Option("--from", metavar="PROFILE", help="Adapt a similar device's: 5 to 10 networks do.")
    ] = None,
    backend: Backend = "onnxruntime-cpu",
    threads: Threads = 1,
    compute_units: Units = "all",
    development_team: Team = "",
    measurements: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Measure nothing: columns architecture, ms, as measured elsewhere."),
    ] = None,
    device: Annotated[str, typer.Option(help="With --measurements: what was measured, in your words.")] = "",
    resolution: Annotated[str | None, pixels("With --measurements: by default FILE's, or 224.")] = None,
    pairs: Annotated[int, _pairs("more on a noisy machine.")] = 20,  # as `LIMITS`
    json: Json = False,
) -> None:
    """Calibrate a device: measure networks that tell its layers' costs apart, fit, and report the held-out error.

    Fifty networks take about two minutes on a laptop and predict the space's networks to about 2 %. What was measured
    is kept as it comes: after Ctrl-C the same command resumes. The profile is one YAML file and one CSV file to share.

    Examples:

        starsearch latency fit --out laptop.yaml

        starsearch latency fit --out laptop-2.yaml --threads 2 --from laptop.yaml --budget 10

        starsearch latency fit --out pixel.yaml --measurements pixel.csv --device "Pixel 8" --from laptop.yaml
    """
    from starsearch.api.latency import calibrate_device, profile_of_measurements
    from starsearch.cli.live import bar
    from starsearch.latency.measure import MeasureSpec
    from starsearch.latency.prediction.calibration import LIMITS

    notes: tuple[str, ...] = ()
    if measurements is not None:
        if not device:
            raise SpecError('Say what was measured: --device "Pixel 8, Android 16, ONNX Runtime 1.22".')
        profile = profile_of_measurements(measurements, out, device=device, resolution=resolution, base=base)
    else:
        if device or resolution:
            raise SpecError("--device and --resolution go with --measurements; here the space says the resolution.")
        limits = replace(LIMITS, min_pairs=min(LIMITS.min_pairs, pairs), max_pairs=pairs)
        options = BackendOptions(threads=threads, compute_units=compute_units, development_team=development_team)
        spec = MeasureSpec(backend=backend, options=options, limits=limits)
        with bar() as watch:
            profile, notes = calibrate_device(out, budget=budget, space=space, spec=spec, base=base, watch=watch)
    if json:
        print_json({**asdict(profile), "samples": len(profile.samples), "notes": notes})
    else:
        _print_profile(profile, out, notes)


@app.command()
def kit(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where they are written; files there are not written over.")
    ] = Path("kit"),
    count: Annotated[int, typer.Option(min=5, max=1_000, help="Networks: 8 make a profile, 5 adapt one.")] = 10,
    space: Space = "starnet",
    json: Json = False,
) -> None:
    """Write networks to be timed on a device that cannot run starsearch, and the CSV to fill in.

    ONNX files, with coremltools installed also Core ML packages, and a README that says how to time them. What was
    filled in becomes a profile with: starsearch latency fit --measurements FOLDER/measurements.csv.

    Example:

        starsearch latency kit --space spaces/starnet.yaml --count 10 --out kit/
    """
    from starsearch.api.latency import write_kit

    files = write_kit(out, count=count, space=space)
    if json:
        print_json({"files": files})
        return
    say(
        f"{len(files)} files in {out}. Time the networks as {out}/README.md says and fill in the column ms, then:",
        f'  starsearch latency fit --out phone.yaml --measurements {out}/measurements.csv --device "Phone, runtime"',
    )


@app.command()
def predict(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A profile's file, or a shipped one: iphone, p100 …")
    ],
    networks: Annotated[
        list[str], typer.Argument(metavar="ARCH...", help="Names, one-line texts, YAML files, or STUDY:TRIAL.")
    ],
    resolution: Annotated[str | None, pixels("By default STUDY's, else the profile's.")] = None,
    json: Json = False,
) -> None:
    """Predict latencies on a profile's device, with 90 % prediction intervals; nothing is measured.

    A network with a layer the profile has no term for is refused: what a profile has not seen it does not guess.

    Examples:

        starsearch latency predict laptop.yaml starnet_s1 starnet:embed_dim=32,depths=1-2-6-2

        starsearch latency predict iphone starnet_s1 starnet_s4
    """
    from starsearch.api.latency import open_profile, predict_latency

    found = predict_latency(profile, networks, resolution=resolution).to_dict("records")
    opened = open_profile(profile)
    if json:
        print_json(found)
        return
    interval = "{low_ms:.3g} – {high_ms:.3g}"
    columns = {"network": "{architecture}", "predicted ms": "{predicted_ms:.3g}", "90 % interval": interval}
    print_table(table(found, columns))
    error, resolutions = opened.held_out, sorted({one["resolution"] for one in found}, key=area)
    say(
        f"On {opened.device.text}, {' and '.join(map(str, resolutions))} px; held-out error of the profile "
        f"{error.mape_percent:.1f} % ({error.networks} networks, {error.method}, {opened.date}).",
        style="dim",
    )
    if resolutions != [opened.resolution]:
        say(f"The profile was calibrated at {opened.resolution} px: at others its error is not known.", style="yellow")
    _warn(opened.note)


@app.command("import")
def import_(
    study: Study,
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
    from starsearch.api.latency import import_measurements

    found = import_measurements(study, measurements, device=device)
    if json:
        print_json(found)
        return
    say(f"{found.name}: the study has measured figures of {counted(found.networks, 'network')} now.")
    if found.passed_over:
        _warn(
            f"Ignored, since the study has not evaluated them: {len(found.passed_over)}, the first of them "
            f"{found.passed_over[0]}."
        )
    say(*(f"Written anew: {path}" for path in found.files), style="dim")


@app.command()
def check(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's file.")],
    networks: Annotated[int, typer.Option(min=5, max=10_000, help="How many random networks to measure.")] = 10,
    space: Space = "starnet",
    seed: Annotated[int, typer.Option(min=0, help="Draws the networks.")] = 1_000_003,
    json: Json = False,
) -> None:
    """Measure fresh random networks here and say whether the profile still holds on this machine.

    It does not hold when more networks lie outside their 90 % intervals than chance explains (1 in 100), when all are
    off by more than 5 % by the reference network's time, or the whole machine by 15 %. Exit code 1 then, for scripts.
    """
    from starsearch.api.latency import check_profile
    from starsearch.cli.live import bar

    with bar() as watch:
        found = check_profile(profile, networks=networks, space=space, seed=seed, watch=watch)
    if json:
        print_json(found)
    else:
        columns: dict[str, Any] = {
            "network": "{architecture}",
            "measured ms": "{measured_ms:.3g}",
            "predicted ms": "{predicted_ms:.3g}",
            "90 % interval": "{low_ms:.3g} – {high_ms:.3g}",
            "off": lambda row: f"{100 * (row['measured_ms'] / row['predicted_ms'] - 1):+.1f} %",
        }
        print_table(
            table(
                found.networks,
                columns,
                style=lambda row: "" if row["low_ms"] <= row["measured_ms"] <= row["high_ms"] else "yellow",
            )
        )
        _warn(*(f"Not the profile's machine; {one}." for one in found.differences), *found.notes)
        say(
            f"The profile {found.profile} {'holds' if found.holds else 'does not hold'} on this machine: "
            f"{found.inside} of {len(found.networks)} networks inside their intervals by the reference network's time, "
            f"mean error {found.errors.mape_percent:.1f} %; the machine as a whole takes {found.bias_percent:+.1f} %.",
            style="bold green" if found.holds else "bold red",
        )
        advice = "Calibrate anew (starsearch latency fit --out NEW.yaml), or adapt it with ten networks (--from)."
        if found.balanced:
            advice = (
                "Networks still compare as it says, but the machine runs at another speed: is it throttled, or busy? "
                "If it stays so, calibrate anew."
            )
        if not found.holds:
            say(advice, style="dim")
    if not found.holds:
        raise typer.Exit(code=1)


def _placement_lines(placement: Mapping[str, Any] | None) -> list[str]:
    """Say the share of each processor, and the most expensive operations on the CPU."""
    if placement is None:
        return []
    processors = {"neural_engine": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}
    shares = ", ".join(f"{100 * placement[f'{name}_share']:.1f} % {words}" for name, words in processors.items())
    on_cpu = placement["cpu_operations"]
    lines = [f"Core ML would run the {placement['operations']} operations on (by estimated cost): {shares}"]
    for operation in on_cpu[:_SHOWN]:
        why = "no other processor can" if operation["is_forced"] else "by choice"
        share = f"{100 * operation['cost_share']:.1f} %"
        lines.append(f"  on the CPU, {why}: {operation['name']} ({operation['type']}), {share}")
    if len(on_cpu) > _SHOWN:
        lines.append(f"  and {len(on_cpu) - _SHOWN} more on the CPU; --json lists them")
    return lines


def _print_profile(profile: DeviceProfile, path: Path, notes: Sequence[str]) -> None:
    error, reference = profile.held_out, profile.reference
    low, high = (100 * (math.exp(end) - 1) for end in profile.interval_log)
    print_facts(
        {
            "profile": profile.name,
            "device": profile.device.text,
            "calibrated": f"{profile.date}, {len(profile.samples)} networks at {profile.resolution} px",
            "held-out error": f"{error.mape_percent:.1f} % mean, {error.within_5_percent:.0f} % within ±5 %, "
            f"{error.within_10_percent:.0f} % within ±10 %, Spearman {error.spearman:.3f} "
            f"({error.method}, {error.networks} networks)",
            "90 % interval": f"{low:+.1f} % to {high:+.1f} % of a prediction",
            "scale": f"StarNet-S1 at 224 px takes {reference.ms:.3g} ± {reference.spread:.1g} ms" if reference else "",
        }
    )
    _warn(profile.note, *notes)
    say(
        f"Written to {path} and {path.with_suffix('.csv').name}. Use it as a study's device, or:",
        f"  starsearch latency predict {path} {profile.samples[0].architecture}",
        style="dim",
    )


def _warn(*notes: str) -> None:
    say(*(note for note in notes if note), style="yellow")

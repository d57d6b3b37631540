"""Latency: measure a network, calibrate and use device profiles, bring in figures measured elsewhere."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starsearch.api.networks import resolve
from starsearch.api.study import write_study_report
from starsearch.api.study_folder import place_of, views_of
from starsearch.errors import EvaluationError, ExportError, SpecError, StudyError
from starsearch.export.formats.coreml import SUFFIX, build_coreml, load_coremltools
from starsearch.families.family import Architecture
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from starsearch.latency.backends.backend import Backend, Network, PlacingBackend
from starsearch.latency.backends.networks import as_module, as_onnx
from starsearch.latency.device import Device, vector_width
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.prediction import predict
from starsearch.latency.prediction.calibration import (
    CalibrationLog,
    check_budget,
    choose_networks,
    fit_profile,
    measure_networks,
)
from starsearch.latency.prediction.check import ProfileCheck, compare_with_profile
from starsearch.latency.prediction.imported import read_measurements
from starsearch.latency.prediction.profile import DeviceProfile, load_profile, save_profile
from starsearch.measurement import Measurement
from starsearch.objective import LATENCY, THIS_MACHINE
from starsearch.progress import Progress, follow, ignore
from starsearch.records.record import StudyRecord, hold_lease
from starsearch.resolution import Resolution, sides
from starsearch.resources import find_file
from starsearch.space import SearchSpace
from starsearch.study.space_file import load_space

_SEED = 0
_MOST_DRAWN = 1_000
_CHECK_SEED = 1_000_003  # other networks than a fit's
_NARROWEST_VECTORS = 4  # of a device that is not known
_KIT = """\
# Latency kit

{count} networks of the space {space} at {resolution} px, with random weights, which latency does not depend on.
measurements.csv names the ONNX files (input "input", 1×3×{size}, float32). Core ML packages, where
there are any, have the same names (input "image", RGB, of the same height and width).

1. Time each file on the device with the runtime that you deploy with: one thread, batch 1, nothing else running. Let
   10 runs warm it up, then time at least 50; the median counts. Let the device cool down between networks.
2. Write the milliseconds into the column ms. Where a network does not run, leave it empty.
3. Where starsearch is installed:

       starsearch latency fit --out phone.yaml --measurements measurements.csv --device "Phone, system, runtime"

   With the profile of a similar device of {resolution} px (--from PROFILE) five networks are enough, else eight.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has brought into a study."""

    name: str  # the quantity the figures stand under: "latency_ms", "latency_ms@LABEL"
    networks: int  # how many architectures of the study have a figure now
    passed_over: tuple[str, ...]  # architectures of the file that the study has not evaluated
    files: tuple[Path, ...]  # the report's files, written anew; empty for a study without a folder


def measure_latency(
    text: str,
    *,
    resolution: Resolution | None = None,
    spec: MeasureSpec | None = None,
    watch: Callable[[Progress], None] = ignore,
) -> dict[str, Any]:
    """Measure the network `text` names, as it is deployed, in pairs with the reference network.

    Architectures get random weights. With Core ML the result also says which processor it runs the operations on
    ("placement"; None with other backends).

    Args:
        text: an architecture in any of its forms, FILE.onnx, or timm:NAME.
        resolution: by default a study's, a timm model's own, or 224. An ONNX file has its own.
        spec: how it is measured; its resolution and number of classes are not read.
        watch: called with the progress.
    """
    spec = spec or MeasureSpec()
    backend = spec.open_backend()  # what is missing is said before a network is built
    named = resolve(text).for_timing(resolution)
    spec = replace(spec, resolution=named.resolution or spec.resolution, num_classes=named.num_classes)
    found = follow(measure(named.network, spec), watch)
    placement, notes = _place(named.network, backend, spec)
    timing, scale_ms = found.timing, found.reference.ms
    return {
        "architecture": named.text,
        "resolution": named.resolution,
        "backend": spec.backend,
        "latency_ms": found.ms,
        "latency_ms_spread": found.spread_ms,
        "latency_ms_interval": [timing.interval.low * scale_ms, timing.interval.high * scale_ms],
        "ratio": timing.ratio,
        "pairs": timing.pairs,
        "outliers": timing.outliers,
        "closed": timing.is_closed,
        "notes": [*found.notes, *notes],
        "device": found.device.text,
        "device_facts": asdict(found.device),
        "reference_ms": scale_ms,
        "macs": named.macs,
        "num_classes": named.num_classes,
        "placement": placement,
    }


def _place(network: Network, backend: Backend, spec: MeasureSpec) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Return where the backend runs the operations (None where it cannot tell); an error is only a note."""
    if not isinstance(backend, PlacingBackend):
        return None, ()
    missing = backend.missing_for_placement()
    if missing is None:
        try:
            rng = np.random.default_rng(spec.seed)
            return asdict(backend.describe_placement(network, resolution=spec.resolution, rng=rng)), ()
        except EvaluationError as error:
            missing = str(error)
    return None, (f"Where the operations run is not known. {missing}",)


def open_profile(text: str, *, beside: Path | None = None) -> DeviceProfile:
    """Return the profile that `text` names: a file, or a shipped profile."""
    return load_profile(find_file(text, "profiles", beside=beside))


def calibrate_device(
    out: Path,
    *,
    budget: int = 50,
    space: str = "starnet",
    spec: MeasureSpec | None = None,
    base: str | None = None,
    watch: Callable[[Progress], None] = ignore,
) -> tuple[DeviceProfile, tuple[str, ...]]:
    """Measure `budget` informative networks of a space on this machine, fit (or adapt `base`), write the profile.

    What was measured is kept as it comes in OUT.measuring.jsonl; the same call, also with another budget, resumes
    from there. Returned with the profile is what a reader should know of how the networks were measured. The resolution
    of `spec` is not read: it is the space's, or that of `base`, the profile of a similar device.
    """
    _check_free(out)
    similar = open_profile(base) if base is not None else None
    check_budget(budget, is_adapted=similar is not None)
    found = _open_space(space)
    resolution = found.resolution if similar is None else similar.resolution
    spec = replace(spec or MeasureSpec(), resolution=resolution)
    device = spec.open_backend().describe_device()
    networks = choose_networks(_draw(found, _SEED), budget, resolution=resolution, vector_width=vector_width())
    log = CalibrationLog(out.with_suffix(".measuring.jsonl"), resolution)
    measured = follow(measure_networks(networks, spec=spec, log=log), watch)
    profile = fit_profile(
        measured.samples,
        name=out.stem,
        device=device,
        backend=spec.backend,
        resolution=resolution,
        reference=measured.reference,
        base=similar,
    )
    save_profile(profile, out)
    log.remove()
    return profile, measured.notes


def profile_of_measurements(
    measurements: Path, out: Path, *, device: str, resolution: Resolution | None = None, base: str | None = None
) -> DeviceProfile:
    """Fit or adapt a profile from figures measured elsewhere (a phone, by any app); write it at `out`.

    The CSV file has the columns architecture and ms; without a `resolution` it says that, too, or it is 224.
    `base` is the profile of a similar device to adapt.
    """
    _check_free(out)
    samples, said = read_measurements(measurements)
    if resolution and said and resolution != said:
        raise SpecError(f"{measurements} says that it is of {said} px, --resolution says {resolution}; leave it out.")
    resolution = resolution or said or 224
    similar = open_profile(base) if base is not None else None
    if similar and similar.resolution != resolution:
        raise EvaluationError(
            f"The profile {similar.name!r} was fitted at {similar.resolution} px, the figures are of "
            f"{resolution} px. Measure at {similar.resolution} px, or adapt another profile."
        )
    profile = fit_profile(
        samples,
        name=out.stem,
        device=Device(processor=device, runtime="imported", optimization="unknown"),
        backend="imported",
        resolution=resolution,
        reference=None,
        base=similar,
    )
    save_profile(profile, out)
    return profile


def write_kit(out: Path, *, count: int = 10, space: str = "starnet") -> tuple[Path, ...]:
    """Write what it takes to measure informative networks of a space on a device that cannot run starsearch.

    An ONNX file per network, with coremltools also a Core ML package, measurements.csv to be filled in, and README.md,
    which says how. `profile_of_measurements` reads it back: 8 networks make a profile, 5 adapt one.
    """
    found = _open_space(space)
    networks = choose_networks(_draw(found, _SEED), count, resolution=found.resolution, vector_width=_NARROWEST_VECTORS)
    has_coreml = True
    try:
        load_coremltools()
    except ExportError:
        has_coreml = False
    rng, rows = np.random.default_rng(_SEED), []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise SpecError(f"{out} is not empty; name another folder with --out.")
        for number, architecture in enumerate(networks, start=1):
            file = f"network-{number:02d}.onnx"
            module = as_module(architecture, resolution=found.resolution, rng=rng)
            (out / file).write_bytes(as_onnx(module, resolution=found.resolution, rng=rng))
            if has_coreml:
                package = build_coreml(module, resolution=found.resolution)
                package.save(str((out / file).with_suffix(SUFFIX)))
            rows.append((format_architecture(architecture), "", file, found.resolution))
        with (out / "measurements.csv").open("w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows([("architecture", "ms", "file", "resolution"), *rows])
        about = {"resolution": found.resolution, "size": "×".join(map(str, sides(found.resolution)))}
        text = _KIT.format(count=len(networks), space=Path(space).stem, **about)
        (out / "README.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"The kit cannot be written to {out}: {error.strerror}.") from error
    return tuple(sorted(out.iterdir()))


def predict_latency(
    profile: str, networks: str | Architecture | Sequence[str | Architecture], *, resolution: Resolution | None = None
) -> pd.DataFrame:
    """Predict the latencies of networks, as they are deployed, on a profile's device; a row each, with 90 % intervals.

    >>> predict_latency("iphone", "starnet_s1")["predicted_ms"].round(1).tolist()
    [0.7]

    Args:
        profile: a file or a shipped profile's name.
        networks: names, one-line texts, YAML files, or STUDY:TRIAL, which has the study's resolution and classes.
        resolution: by default the study's, or the profile's.
    """
    opened = open_profile(profile)
    predicted = []
    for network in [networks] if isinstance(networks, str | Architecture) else networks:
        named = resolve(network)
        architecture = named.architecture
        timed = named.for_timing(resolution or (None if named.trial else opened.resolution))
        pixels = timed.resolution or opened.resolution
        found = predict.predict_latency(opened, architecture, resolution=pixels, num_classes=timed.num_classes)
        predicted.append(
            {
                "architecture": format_architecture(architecture),
                "predicted_ms": found.value,
                "low_ms": found.low,
                "high_ms": found.high,
                "device": found.device,
                "profile": opened.name,
                "resolution": pixels,
            }
        )
    return pd.DataFrame(predicted)


def check_profile(
    profile: str,
    *,
    networks: int = 10,
    space: str = "starnet",
    seed: int = _CHECK_SEED,
    watch: Callable[[Progress], None] = ignore,
) -> ProfileCheck:
    """Measure fresh random networks of a space here, as the profile's were, and compare with its predictions."""
    opened = open_profile(profile)
    if opened.reference is None:
        raise EvaluationError(
            f"The profile {opened.name!r} holds figures from elsewhere ({opened.device.text}): this machine cannot "
            "measure them again. Measure a few networks on the device and compare: starsearch latency predict."
        )
    spec = MeasureSpec.like(opened.backend, opened.device, resolution=opened.resolution)
    here = spec.open_backend().describe_device()
    chosen = list(islice(_draw(_open_space(space), seed), networks))
    for network in chosen:  # what the profile does not cover is said before anything is measured
        predict.predict_latency(opened, network, resolution=spec.resolution)
    measured = follow(measure_networks(chosen, spec=spec, deployed=True), watch)
    # On the scale of here and now: a machine that became slower as a whole shows, too.
    scale = measured.reference.ms / opened.reference.ms
    return replace(
        compare_with_profile(opened, measured.samples, scale=scale),
        reference_ms=measured.reference.ms,
        differences=opened.device.differences(here),
        notes=measured.notes,
    )


def import_measurements(study: str, path: Path, *, device: str) -> Imported:
    """Write latencies measured elsewhere into a study, where they stand in for what was predicted.

    `study` is its folder or NAME@STORAGE-URL. `device` is the label of the quantity (phone, for latency_ms@phone) or
    the name of the profile that predicts it; with another label the figures stand beside the study's.
    """
    place = place_of(study)
    if re.fullmatch(r"[A-Za-z0-9_-]+", device) is None:
        raise SpecError(f"A device's label is made of letters, digits, - and _; got {device!r}.")
    studies = views_of(place)
    devices = studies[0].spec.devices
    labelled = f"{LATENCY}@{device}"
    name = labelled if labelled in devices else next((n for n, of in devices.items() if of == device), labelled)
    if devices.get(name) == THIS_MACHINE:
        raise StudyError(
            f"{name} is measured on this machine in every trial of the study; figures of another device cannot stand "
            "in for it. Give them another --device."
        )
    complete = [one.trials[one.trials["state"] == "COMPLETE"] for one in studies]
    known = {key for trials in complete for key in trials["architecture"]}
    samples = {architecture_hash(parse_architecture(one.architecture)): one for one in read_measurements(path)[0]}
    found = {key: sample for key, sample in samples.items() if key in known}
    if not found:
        raise StudyError(
            f"None of the {len(samples)} architectures in {path} is one that {place.name!r} has evaluated. Measure "
            "those of its front.csv (the column architecture_text)."
        )
    for one in studies:
        with closing(StudyRecord.find(place.url, one.name)) as record, hold_lease(record):
            for key, sample in found.items():
                runs = max(sample.pairs, 1)
                measured = Measurement(name=name, value=sample.ms, runs=runs, spread=sample.spread_ms, device=device)
                record.keep_measured(key, measured)
    return Imported(
        name=name,
        networks=len(found),
        passed_over=tuple(sample.architecture for key, sample in samples.items() if key not in known),
        files=() if place.folder is None else tuple(write_study_report(place)),
    )


def _open_space(text: str) -> SearchSpace:
    return load_space(find_file(text, "spaces"))


def _draw(space: SearchSpace, seed: int) -> Iterator[Architecture]:
    """Draw networks of a space at random, none twice; a small space's are all there are."""
    return space.sample_architectures(min(space.num_architectures, _MOST_DRAWN), seed)


def _check_free(out: Path) -> None:
    """Refuse to write over a profile, which studies may name, or over the figures it is made from."""
    if out.suffix != ".yaml":
        raise SpecError(f"A profile is a YAML file; got {str(out)!r}. Call it {out.stem or 'profile'}.yaml.")
    for path in (out, out.with_suffix(".csv")):
        if path.exists():
            raise SpecError(
                f"{path} is there already. Give the profile another name with --out, or move the file away."
            )

"""Device profiles: calibrate one, adapt one, predict from it, check whether it still holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.architectures import find_architecture, find_deployment
from starsearch.errors import EvaluationError, SpecError
from starsearch.families.family import Architecture
from starsearch.progress import follow, ignore

if TYPE_CHECKING:
    from starsearch.latency import MeasureSpec
    from starsearch.latency.calibration import Calibration
    from starsearch.latency.checking import ProfileCheck
    from starsearch.latency.device import Device
    from starsearch.latency.profile import DeviceProfile, Predictions
    from starsearch.progress import Progress
    from starsearch.space import SearchSpace

_SEED = 0
_MOST_DRAWN = 1_000
_CHECK_SEED = 1_000_003  # other networks than a fit's
_NARROWEST_VECTORS = 4  # of a device that is not known
_KIT = """\
# Latency kit

{count} networks of the space {space} at {resolution} px, with random weights, which latency does not depend on.
measurements.csv names the ONNX files (input "input", 1×3×{resolution}×{resolution}, float32). Core ML packages, where
there are any, have the same names (input "image", {resolution}×{resolution}, RGB).

1. Time each file on the device with the runtime that you deploy with: one thread, batch 1, nothing else running. Let
   10 runs warm it up, then time at least 50; the median counts. Let the device cool down between networks.
2. Write the milliseconds into the column ms. Where a network does not run, leave it empty.
3. Where starsearch is installed:

       starsearch latency fit --out phone.yaml --measurements measurements.csv --device "Phone, system, runtime"

   With the profile of a similar device of {resolution} px (--from PROFILE) five networks are enough, else eight.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """A profile held against fresh measurements on this machine.

    Attributes:
        profile: that was checked.
        differences: what this machine has otherwise than the profile's device, in words.
        reference_ms: the reference network's time here and now; the profile has its own.
        check: what came out.
        notes: what a reader should know of how the networks were measured.
    """

    profile: DeviceProfile
    differences: tuple[str, ...]
    reference_ms: float
    check: ProfileCheck
    notes: tuple[str, ...]


def open_profile(text: str, *, beside: Path | None = None) -> DeviceProfile:
    """The profile that `text` names: a file, or a shipped profile.

    Raises:
        SpecError: there is none, or it is damaged.
    """
    from starsearch.latency.profile_file import load_profile
    from starsearch.resources import find_file

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

    What was measured is kept as it comes in OUT.measuring.jsonl; the same call, also with another budget, goes on
    from there. Returned with the profile is what a reader should know of how the networks were measured.

    Args:
        out: the profile's file; its samples lie beside it as CSV.
        budget: networks to measure.
        space: a space file or a shipped space's name.
        spec: how networks are measured; its resolution is the space's.
        base: a profile of a similar device to adapt; None fits from nothing.
        watch: told how far it is.

    Raises:
        SpecError: no such space or base profile, or the files cannot be written.
        BackendError: the backend cannot run here.
        EvaluationError: the budget is too small, or a network cannot be measured.
    """
    from starsearch.latency import MeasureSpec
    from starsearch.latency.adaptation import MIN_SAMPLES as LEAST_TO_ADAPT
    from starsearch.latency.calibration import (
        CalibrationLog,
        adapt_profile,
        check_budget,
        choose_networks,
        fit_profile,
        measure_networks,
    )
    from starsearch.latency.device import vector_width
    from starsearch.latency.fitting import MIN_SAMPLES as LEAST_TO_FIT
    from starsearch.latency.profile_file import save_profile

    _check_free(out)
    base_profile = open_profile(base) if base is not None else None
    check_budget(budget, least=LEAST_TO_FIT if base_profile is None else LEAST_TO_ADAPT)
    found = _open_space(space)
    resolution = found.resolution if base_profile is None else base_profile.resolution
    spec = replace(spec or MeasureSpec(), resolution=resolution)
    device = spec.open_backend().describe_device()
    networks = choose_networks(_draw(found, _SEED), budget, resolution=resolution, vector_width=vector_width())
    log = CalibrationLog(out.with_suffix(".measuring.jsonl"), resolution=resolution)
    calibration: Calibration = follow(measure_networks(networks, spec=spec, log=log), watch)
    about: dict[str, Any] = {
        "name": out.stem,
        "device": device,
        "backend": spec.backend,
        "reference": calibration.reference,
    }
    if base_profile is None:
        profile = fit_profile(calibration.samples, resolution=resolution, **about)
    else:
        profile = adapt_profile(base_profile, calibration.samples, **about)
    save_profile(profile, out)
    log.remove()
    return profile, calibration.notes


def write_kit(out: Path, *, count: int = 10, space: str = "starnet") -> tuple[Path, ...]:
    """Write what it takes to measure informative networks of a space on a device that cannot run starsearch.

    An ONNX file a network, with coremltools also a Core ML package, measurements.csv to be filled in, and README.md,
    which says how. `profile_of_measurements` reads it back.

    Args:
        out: a folder that is made, or is empty.
        count: how many networks; 8 make a profile, 5 adapt one.
        space: a space file or a shipped space's name.

    Raises:
        SpecError: no such space, or the folder is not empty or cannot be written.
    """
    import csv

    import numpy as np

    from starsearch.errors import ExportError
    from starsearch.export import build_onnx, random_weights
    from starsearch.export.coreml import SUFFIX, build_coreml
    from starsearch.export.coreml_library import load_coremltools
    from starsearch.families.family import lower
    from starsearch.families.text import format_architecture
    from starsearch.latency.calibration import choose_networks

    found = _open_space(space)
    networks = choose_networks(_draw(found, _SEED), count, resolution=found.resolution, vector_width=_NARROWEST_VECTORS)
    try:
        load_coremltools()
        has_coreml = True
    except ExportError:
        has_coreml = False
    rng, rows = np.random.default_rng(_SEED), []
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise SpecError(f"{out} is not empty; name another folder with --out.")
        for number, architecture in enumerate(networks, start=1):
            file = f"network-{number:02d}.onnx"
            layers = lower(architecture, resolution=found.resolution)
            weights = random_weights(layers, rng)
            (out / file).write_bytes(build_onnx(layers, weights))
            if has_coreml:
                build_coreml(layers, weights).save(str((out / file).with_suffix(SUFFIX)))
            rows.append((format_architecture(architecture), "", file, found.resolution))
        with (out / "measurements.csv").open("w", newline="", encoding="utf-8") as target:
            csv.writer(target).writerows([("architecture", "ms", "file", "resolution"), *rows])
        text = _KIT.format(count=len(networks), space=Path(space).stem, resolution=found.resolution)
        (out / "README.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"The kit cannot be written to {out}: {error.strerror}.") from error
    return tuple(sorted(out.iterdir()))


def profile_of_measurements(
    measurements: Path, out: Path, *, device: str, resolution: int | None = None, base: str | None = None
) -> DeviceProfile:
    """A profile from figures measured elsewhere (a phone, by any app), fitted or adapted, written at `out`.

    Args:
        measurements: CSV with the columns architecture and ms.
        out: the profile's file.
        device: what was measured, in the user's words.
        resolution: it was measured at, in pixels; None for what the CSV says, else 224.
        base: a profile of a similar device to adapt; None fits from nothing.

    Raises:
        SpecError: the CSV breaks a rule or says another resolution, or no such base profile.
        EvaluationError: too few figures.
    """
    from starsearch.latency.calibration import adapt_profile, fit_profile
    from starsearch.latency.imported import read_measurements
    from starsearch.latency.profile_file import save_profile

    _check_free(out)
    samples, said = read_measurements(measurements)
    if resolution and said and resolution != said:
        raise SpecError(f"{measurements} says that it is of {said} px, --resolution says {resolution}; leave it out.")
    resolution = resolution or said or 224
    about: dict[str, Any] = {
        "name": out.stem,
        "device": _imported_device(device),
        "backend": "imported",
        "reference": None,
    }
    if base is None:
        profile = fit_profile(samples, resolution=resolution, **about)
    else:
        base_profile = open_profile(base)
        if base_profile.resolution != resolution:
            raise EvaluationError(
                f"The profile {base_profile.name!r} was fitted at {base_profile.resolution} px, the figures are of "
                f"{resolution} px. Measure at {base_profile.resolution} px, or adapt another profile."
            )
        profile = adapt_profile(base_profile, samples, **about)
    save_profile(profile, out)
    return profile


def predict_architectures(
    profile: str, networks: Sequence[str], *, resolution: int | None = None
) -> tuple[DeviceProfile, tuple[Architecture, ...], Predictions, tuple[int, ...]]:
    """Predict the latencies of the named networks, as they are deployed, on the profile's device.

    Returned are the profile, the networks, their latencies, and the resolution of each in pixels.

    Args:
        profile: file or shipped name.
        networks: names, one-line texts, YAML files, or STUDY:TRIAL, which has the study's resolution and classes.
        resolution: in pixels; by default the study's, or the profile's.

    Raises:
        SpecError, ArchitectureError, StudyError: no such profile or network.
        EvaluationError: the profile has no term for one of a network's layers.
    """
    import numpy as np

    from starsearch.latency.predicting import predict_latency
    from starsearch.latency.profile import Predictions

    opened = open_profile(profile)
    found = tuple(find_architecture(text) for text in networks)
    deployed = [find_deployment(text) for text in networks]
    pixels = tuple(resolution or own or opened.resolution for own, _ in deployed)
    each = [
        predict_latency(opened, [architecture], resolution=px, num_classes=num_classes)
        for architecture, px, (_, num_classes) in zip(found, pixels, deployed, strict=True)
    ]
    ms, low, high = np.array([[one.ms[0], one.low_ms[0], one.high_ms[0]] for one in each]).T
    parts = tuple(one.parts[0] for one in each)
    return opened, found, Predictions(ms=ms, low_ms=low, high_ms=high, device=opened.device.text, parts=parts), pixels


def check_profile(
    profile: str,
    *,
    networks: int = 10,
    space: str = "starnet",
    seed: int = _CHECK_SEED,
    watch: Callable[[Progress], None] = ignore,
) -> CheckOutcome:
    """Measure fresh random networks here, with the profile's backend and threads, and compare with its predictions.

    Args:
        profile: file or shipped name.
        networks: to measure; at least 5.
        space: they are drawn from.
        seed: of the draw.
        watch: told how far it is.

    Raises:
        SpecError: no such profile or space.
        BackendError: the backend cannot run here.
        EvaluationError: the profile was not measured on a machine, or a network cannot be measured.
    """
    from starsearch.latency.calibration import measure_networks
    from starsearch.latency.checking import compare_with_profile
    from starsearch.latency.predicting import predict_latency

    opened = open_profile(profile)
    if opened.reference is None:
        raise EvaluationError(
            f"The profile {opened.name!r} holds figures from elsewhere ({opened.device.text}): this machine cannot "
            "measure them again. Measure a few networks on the device and compare: starsearch latency predict."
        )
    spec = _spec_of(opened)
    here = spec.open_backend().describe_device()
    chosen = list(islice(_draw(_open_space(space), seed), networks))
    predict_latency(opened, chosen, resolution=spec.resolution)  # what it does not cover is said before measuring
    measured = follow(measure_networks(chosen, spec=spec, deployed=True), watch)
    return CheckOutcome(
        profile=opened,
        differences=opened.device.differences(here),
        reference_ms=measured.reference.ms,
        # On the scale of here and now: a machine that became slower as a whole shows, too.
        check=compare_with_profile(opened, measured.samples, scale=measured.reference.ms / opened.reference.ms),
        notes=measured.notes,
    )


def _spec_of(profile: DeviceProfile) -> MeasureSpec:
    from starsearch.latency import MeasureSpec

    return MeasureSpec.like(profile.backend, profile.device, resolution=profile.resolution)


def _open_space(text: str) -> SearchSpace:
    from starsearch.resources import find_file
    from starsearch.study.space_file import load_space

    return load_space(find_file(text, "spaces"))


def _draw(space: SearchSpace, seed: int) -> Iterator[Architecture]:
    """Networks of a space at random, none twice; a small space's are all there are."""
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


def _imported_device(name: str) -> Device:
    from starsearch.latency.device import Device

    return Device(
        processor=name,
        cores=None,
        threads=None,
        runtime="imported",
        optimization="unknown",
        governor=None,
        system=None,
    )

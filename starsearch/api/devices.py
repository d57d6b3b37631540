"""Which latencies of a study are measured on this machine, in its trials or once a network is on the front."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

from starsearch.errors import BackendError
from starsearch.objective import device_label, is_latency

if TYPE_CHECKING:
    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.search.front import Meter
    from starsearch.study.spec import StudySpec


def timed_quantities(spec: StudySpec) -> tuple[str, ...]:
    """Return the names of the latencies that are measured on this machine in every trial."""
    return tuple(name for name in spec.quantities if is_latency(name) and name not in spec.profiles)


def wants_int8(spec: StudySpec) -> bool:
    """Whether the study is about the networks made int8."""
    return any(name.startswith("int8_") for name in spec.quantities)


def wants_placement(spec: StudySpec) -> bool:
    """Whether Core ML is asked where it would run the networks."""
    return "coreml_cpu_percent" in spec.quantities


def check_machine(spec: StudySpec) -> None:
    """Refuse a study with a quantity that this machine cannot measure, before anything is evaluated."""
    if not wants_placement(spec):
        return
    from starsearch.latency.backends.backend import BackendOptions
    from starsearch.latency.backends.coreml import Mac

    if (missing := Mac(BackendOptions()).missing_for_placement()) is not None:
        raise BackendError(f"coreml_cpu_percent is Core ML's own estimate, on a Mac. {missing}")


def warn_of_other_resolutions(spec: StudySpec) -> None:
    """Warn of each profile that was fitted to networks at another resolution than the study's are deployed at."""
    resolution = spec.space.resolution
    for name, profile in spec.profiles.items():
        if profile.resolution != resolution:
            warnings.warn(
                f"{name} is predicted at {resolution} px from the profile {profile.name!r}, which was fitted to "
                f"networks at {profile.resolution} px: its 90 % interval is not calibrated there, and errors may be "
                f"larger. Fit a profile to a space of {resolution} px: starsearch latency fit --space SPACE.yaml.",
                stacklevel=2,
            )


def front_meters(spec: StudySpec, *, num_classes: int, study: str) -> dict[str, Meter]:
    """Return what measures the front's members on this machine, by quantity, on its profile's scale.

    Warns of each profile that is not this machine's: what was predicted from it stays predicted. `study` is as a
    command names it.
    """
    from starsearch.evaluators.latency import measure_latency

    meters: dict[str, Meter] = {}
    for name, profile in spec.profiles.items():
        if (why := _why_not_here(profile)) is not None:
            # Without a scale there is nothing to check against.
            check = "" if profile.reference is None else (
                "If it is meant to be this machine, ask `starsearch latency check "
                f"{spec.profile_files.get(name, profile.name)}`; else "
            )  # fmt: skip
            measure = "measure" if check else "Measure"
            warnings.warn(
                f"{name} is predicted from the profile {profile.name!r} and stays so on the front: {why}. {check}"
                f"{measure} the front's networks there and add them with `starsearch latency import {study} FILE.csv "
                f"--device {device_label(name) or profile.name}`. {profile.note}".rstrip(),
                stacklevel=2,
            )
            continue
        assert profile.reference is not None
        meters[name] = partial(
            measure_latency,
            name=name,
            reference=profile.reference,
            resolution=spec.space.resolution,
            num_classes=num_classes,
            seed=spec.seed,
            backend=profile.backend,
        )
    return meters


def _why_not_here(profile: DeviceProfile) -> str | None:
    """Why nothing can be measured on this machine on the scale of `profile`; None where it can."""
    from starsearch.latency.backends.backend import BACKENDS, BackendOptions, open_backend
    from starsearch.latency.device import device_fingerprint

    try:
        here = (
            open_backend(profile.backend, BackendOptions.of_device(profile.device)).describe_device()
            if profile.backend in BACKENDS
            else device_fingerprint()
        )
    except BackendError as error:
        return str(error)
    if differences := profile.device.differences(here):
        return f"it is of another device than this, the profile's against this one's: {'; '.join(differences)}"
    return None if profile.reference else "it was not measured in pairs with the reference network, so it has no scale"

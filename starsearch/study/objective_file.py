"""What a study file optimises and constrains, and the device profiles from which latencies are predicted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starsearch.errors import SpecError, StarsearchError, did_you_mean
from starsearch.objective import LATENCY, THIS_MACHINE, Constraint, Direction, Objective, device_label, is_latency
from starsearch.resources import find_file, shipped_folder
from starsearch.study.space_file import parse_constraints
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile

if TYPE_CHECKING:
    from starsearch.latency.profile import DeviceProfile

# What can be optimised and constrained, each with the direction that makes sense.
DIRECTIONS: Mapping[str, Direction] = {
    "top1_percent": "maximize",
    "top5_percent": "maximize",
    LATENCY: "minimize",
    "int8_latency_ms": "minimize",
    "int8_top1_percent": "maximize",
    "coreml_cpu_percent": "minimize",
    "macs": "minimize",
    "num_params": "minimize",
}
_KNOWN = f"{', '.join(DIRECTIONS)}, and {LATENCY}@LABEL for a further device"
_LABEL = re.compile(r"[A-Za-z0-9_-]+")
# The deployed network as int8 is timed where it is made.
_ON_THIS_MACHINE = ("int8_latency_ms",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProfile:
    """A profile, and what a command calls it: its file as seen from the working folder, or a shipped profile's name."""

    profile: DeviceProfile
    file: str


Profiles = dict[str, NamedProfile]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """Where a latency comes from: its name for the record, and what predicts it (None: it is measured here)."""

    name: str
    profile: NamedProfile | None = None


def parse_objectives(file: YamlFile, data: Any) -> tuple[tuple[Objective, ...], Profiles]:
    """The `objectives:` section, and the profiles of those latencies that are predicted, by name.

    Raises:
        SpecError: an unknown quantity, device or key, or a direction without sense.
    """
    at: Location = ("objectives",)
    if not isinstance(data, dict) or not data:
        raise file.error(at, f"a mapping such as {{top1_percent: maximize}} is needed; got {shorten(data)}.")
    objectives, profiles = [], {}
    for name, said in data.items():
        objective, profile = _parse_objective(file, (*at, str(name)), str(name), said)
        objectives.append(objective)
        if profile is not None:
            profiles[objective.name] = profile
    return tuple(objectives), profiles


def parse_quantity_constraints(
    file: YamlFile, data: Any, objectives: Sequence[Objective]
) -> tuple[tuple[Constraint, ...], Profiles]:
    """The `constraints:` section of a study, and the profiles of those latencies that are no objectives.

    Raises:
        SpecError: an unknown quantity or device, no bound, or bounds that cross.
    """
    at: Location = ("constraints",)
    if not isinstance(data, dict):
        return parse_constraints(file, at, data, tuple(DIRECTIONS)), {}
    constraints: list[Constraint] = []
    profiles: Profiles = {}
    optimised = {objective.name for objective in objectives}
    for key, said in data.items():
        name, where = str(key), (*at, str(key))
        _check_name(file, where, name, "constraint")
        # Its bounds are read as a space's are; a device is a study's alone.
        bounds = {k: v for k, v in said.items() if k != "device"} if isinstance(said, dict) else said
        constraints += parse_constraints(file, at, {name: bounds}, (name,))
        device = said.get("device")
        if name in optimised and device is not None:
            raise file.error((*where, "device"), f"{name} is an objective, which says its device; leave it out here.")
        if name not in optimised:
            found = _find_device(file, where, name, device)
            if found is not None and found.profile is not None:
                profiles[name] = found.profile
    return tuple(constraints), profiles


def _parse_objective(file: YamlFile, at: Location, name: str, said: Any) -> tuple[Objective, NamedProfile | None]:
    _check_name(file, at, name, "objective")
    direction = DIRECTIONS[LATENCY if is_latency(name) else name]
    said = {"direction": said} if isinstance(said, str) else said
    found = validate(_make_objective(), said, file=file, at=at, known=("direction", "device"))
    if found.direction not in (None, direction):
        raise file.error(at, f"the direction of {name} is {direction}; got {shorten(found.direction)}.")
    device = _find_device(file, at, name, found.device)
    if device is None:
        return Objective(name=name, direction=direction), None
    return Objective(name=name, direction=direction, device=device.name), device.profile


def _check_name(file: YamlFile, at: Location, name: str, what: str) -> None:
    label = device_label(name)
    if label is not None and _LABEL.fullmatch(label) is None:
        raise file.error(at, f"a device's label is made of letters, digits, - and _; got {shorten(label)}.")
    if label is None and name not in DIRECTIONS:
        raise file.error(at, f"unknown {what} {name!r}.{did_you_mean(name, DIRECTIONS)} Known: {_KNOWN}.")


def _find_device(file: YamlFile, at: Location, name: str, said: Any) -> _Device | None:
    """The device of the quantity `name`, of which the file says `said`; None where it has none."""
    where = (*at, "device")
    if not is_latency(name):
        if said is not None and not (name in _ON_THIS_MACHINE and said == THIS_MACHINE):
            raise file.error(at, f"{name} has no device; leave it out.")
        return _Device(name=THIS_MACHINE) if name in _ON_THIS_MACHINE else None
    if said is not None and not isinstance(said, str):
        raise file.error(where, f"a device is {THIS_MACHINE!r} or a profile's file or name; got {shorten(said)}.")
    label = device_label(name)
    text = said or label or THIS_MACHINE
    if text == THIS_MACHINE:
        return _Device(name=THIS_MACHINE)
    if said is None and (file.path.parent / f"{label}.yaml").is_file():  # fitted for this study, beside it
        text = f"{label}.yaml"
    found = _load_profile(file, at if said is None else where, text)
    return _Device(name=found.profile.name, profile=found)


def _load_profile(file: YamlFile, at: Location, text: str) -> NamedProfile:
    try:
        path = find_file(text, "profiles", beside=file.path.parent)
    except SpecError as error:
        raise file.error(
            at, f"a device is {THIS_MACHINE!r}, or a profile that `starsearch latency fit` has written. {error}"
        ) from None
    from starsearch.latency.profile_file import load_profile

    try:
        profile = load_profile(path)
    except StarsearchError as error:
        raise file.error(at, f"the profile cannot be used: {error}") from None
    is_shipped = path.parent == shipped_folder("profiles")
    return NamedProfile(profile=profile, file=path.stem if is_shipped else str(path))


def _make_objective() -> Any:
    from pydantic import BaseModel, ConfigDict

    class ObjectiveEntry(BaseModel):
        model_config = ConfigDict(extra="forbid")
        direction: str | None = None
        device: str | None = None

    return ObjectiveEntry

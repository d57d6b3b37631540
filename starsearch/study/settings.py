"""`--set KEY=VALUE`: single values of a study file, changed on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from starsearch.errors import SpecError
from starsearch.yaml_file import Location, YamlFile, parse_yaml


def runner_settings(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the settings of the study file, and those of the runner file ("runner.workers=4") without "runner."."""
    prefix = "runner."
    ours = [setting for setting in settings if not setting.startswith(prefix)]
    return ours, [setting.removeprefix(prefix) for setting in settings if setting.startswith(prefix)]


def apply_settings(file: YamlFile, settings: Sequence[str]) -> YamlFile:
    """Return `file` with changed values, such as "search.trials=4" or "fidelities.proxy.epochs=1".

    A member of a list is named by its number, from 0, or by its `name`. The value is YAML.
    """
    data = deepcopy(file.data)
    places: dict[Location, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise SpecError(f"--set takes KEY=VALUE, as search.trials=4; got {setting!r}.")
        value = parse_yaml(text, Path(f"--set {key}")).data if text.strip() else None
        places[_assign(data, key.split("."), value, setting)] = setting
    return replace(file, data=data, settings=places)


def _assign(data: Any, keys: Sequence[str], value: Any, setting: str) -> Location:
    """Set the value; return where it stands."""
    location: list[str | int] = []
    for depth, key in enumerate(keys[:-1]):
        place = _place(data, key, setting, keys[:depth])
        if isinstance(data, dict) and place not in data:
            data[place] = {}
        data = data[place]
        location.append(place)
    place = _place(data, keys[-1], setting, keys[:-1])
    data[place] = value
    return (*location, place)


def _place(data: Any, key: str, setting: str, at: Sequence[str]) -> Any:
    """Return the key or index by which `data` has `key`."""
    if isinstance(data, dict):
        return key
    if not isinstance(data, list):
        raise SpecError(f"--set {setting}: {'.'.join(at)} is a single value and has no {key!r}.")
    names = [one.get("name") if isinstance(one, dict) else None for one in data]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(data):
        return int(key)
    known = ", ".join(str(name if name is not None else index) for index, name in enumerate(names))
    raise SpecError(f"--set {setting}: {'.'.join(at)} has no {key!r}; it has {known}.")

"""`Document`: a YAML file as a pydantic model, complaints in the words of the file, and `--set KEY=VALUE`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from starsearch.errors import SpecError, did_you_mean
from starsearch.yaml_file import Location, YamlFile, parse_yaml

T = TypeVar("T")

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_keyword_only_argument")
_NO_MAPPING = ("model_type", "model_attributes_type", "dataclass_type", "dict_type")


class Document(BaseModel):
    """A mapping that a user writes: no key is unknown, no number infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def broken(rule: str, *at: str | int) -> PydanticCustomError:
    """Return the error with which a validator says that a rule is broken; `at` leads from its value to the culprit."""
    return PydanticCustomError("broken", "{rule}", {"rule": rule, "at": at})


def _distinct(values: list[T]) -> list[T]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise broken(f"{value!r} stands twice; keep one.", index)
    return values


Distinct = Annotated[list[T], MinLen(1), AfterValidator(_distinct)]


def validate(kind: type[T], data: Any, *, file: YamlFile, at: Location = ()) -> T:
    """Return `data`, which stands in `file` at `at`, as the document (or dataclass) `kind`.

    Nothing is converted: no text is taken for a number, no number for a text.
    """
    if not isinstance(data, Mapping):
        raise file.error(at, f"a mapping of keys is needed here; got {shorten(data)}.")
    try:
        # By way of JSON: there pydantic's strict mode still takes a mapping for a dataclass, a list for a tuple.
        return TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise _first_error(kind, data, error.errors(include_url=False), file, at) from None


def shorten(value: Any, limit: int = 80) -> str:
    """Return the `repr` of what came, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _first_error(kind: Any, data: Any, errors: list[ErrorDetails], file: YamlFile, at: Location) -> SpecError:
    places = [_place_in(data, (*one["loc"], *one.get("ctx", {}).get("at", ()))) for one in errors]
    # A misspelt key is also a missing one, and what is wrong in one branch of a union is no other branch at all: the
    # misspelling, and what lies deepest, is what helps.
    error = min(errors, key=lambda one: (one["type"] not in _UNKNOWN, -len(places[errors.index(one)])))
    place, key, got = places[errors.index(error)], str(error["loc"][-1:] and error["loc"][-1]), shorten(error["input"])
    if error["type"] in _UNKNOWN:
        known = _keys_at(kind, error["loc"][:-1])
        message = f"unknown key {key!r}.{did_you_mean(key, known)} Known: {', '.join(known)}."
    elif error["type"] in _MISSING:
        message = f"the key {key!r} is needed."
    elif error["type"] in _NO_MAPPING:
        keys = _keys_at(kind, error["loc"])
        message = f"a mapping of keys is needed here; got {got}."
        message += f" Its keys: {{{', '.join(f'{one}: …' for one in keys)}}}." if keys else ""
        if "max" in keys and isinstance(error["input"], int | float):
            message += f" On the command line: --set {'.'.join(map(str, (*at, *place)))}.max={got}."
    elif error["type"] == "too_short":
        message = f"at least one entry is needed; got {got}."
    elif error["type"] in ("broken", "value_error"):
        message = error["msg"].removeprefix("Value error, ")
    else:
        rule = error["msg"].removeprefix("Input ").replace("array", "list")
        nearest = did_you_mean(str(error["input"]), re.findall("'([^']+)'", rule)) if "literal" in error["type"] else ""
        message = f"{rule[:1].lower()}{rule[1:]}; got {got}.{nearest}"
    more = sum(place[: len(other)] != other for other in set(places))
    return file.error((*at, *place), message + (f" ({more} more in this file.)" if more else ""))


def _place_in(data: Any, location: Sequence[str | int]) -> Location:
    """Return the parts of `location` that `data` has; pydantic adds some of its own, as a union's branch."""
    kept: list[str | int] = []
    for part in location:
        there = data if isinstance(data, dict) else dict(enumerate(data)) if isinstance(data, list) else {}
        if part in there:
            kept.append(part)
            data = there[part]
    return tuple(kept)


def _keys_at(kind: Any, location: Sequence[str | int]) -> list[str]:
    """Return the keys that a mapping may have there, by the JSON schema."""
    schema = TypeAdapter(kind).json_schema()
    nodes = list(_branches(schema, schema))
    for part in location:
        inner = (node.get("properties", {}).get(part) or node.get("additionalProperties") for node in nodes)
        below = [node.get("items") for node in nodes] if isinstance(part, int) else list(inner)
        deeper = [one for node in below if isinstance(node, dict) for one in _branches(node, schema)]
        # A part that leads nowhere is the name of a union's branch.
        nodes = deeper or [node for node in nodes if str(node.get("title")).startswith(str(part))] or nodes
    return list(dict.fromkeys(key for node in nodes for key in node.get("properties", ())))


def _branches(node: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    yield node
    for one in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _branches(one, schema)


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
        hint = f" Its file sets it; where a space is run alone: --set {setting[6:]}." if at == ["space"] else ""
        raise SpecError(f"--set {setting}: {'.'.join(at)} is a single value and has no {key!r}.{hint}")
    names = [one.get("name") if isinstance(one, dict) else None for one in data]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(data):
        return int(key)
    known = ", ".join(str(name if name is not None else index) for index, name in enumerate(names))
    raise SpecError(f"--set {setting}: {'.'.join(at)} has no {key!r}; it has {known}.")

"""From pydantic's complaints to ours: file, line, rule, what came, nearest known name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from starsearch.errors import SpecError, did_you_mean
from starsearch.yaml_file import Location, YamlFile

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_RULES = {
    "extra_forbidden": "unknown key",
    "unexpected_keyword_argument": "unknown key",
    "missing": "this key is needed",
    "missing_keyword_only_argument": "this key is needed",
}


def validate(model: type[T], data: Any, *, file: YamlFile, at: Location = (), known: Iterable[str] = ()) -> T:
    """`data` as the pydantic type `model`, strictly (no text for a number, no number for a text).

    Args:
        model: a pydantic model or a dataclass.
        data: the plain values found in `file` at `at`.
        file: for the errors.
        at: where `data` stands in the file.
        known: the keys that may stand there, for naming the nearest one; a pydantic model says its own.

    Raises:
        SpecError: the first complaint, and how many more there are.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(data, Mapping):
        raise file.error(at, f"a mapping of keys is needed here; got {shorten(data)}.")
    try:
        # By way of JSON: there pydantic's strict mode still takes a mapping for a dataclass, a list for a tuple.
        return TypeAdapter(model).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise _first_error(error.errors(include_url=False), file, at, model, tuple(known)) from None


def shorten(value: Any, limit: int = 80) -> str:
    """`repr` of what came, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _first_error(
    errors: list[ErrorDetails], file: YamlFile, at: Location, model: Any, known: tuple[str, ...]
) -> SpecError:
    # A misspelt key is also a missing one: the misspelling is what helps.
    error = min(errors, key=lambda error: _RULES.get(error["type"]) != "unknown key")
    # pydantic adds parts of its own (a union's branch); what the file does not know is left out.
    location = _known_prefix(file, (*at, *error["loc"]), minimum=len(at) + 1)
    rule = _RULES.get(error["type"])
    if rule == "unknown key":
        name = str(error["loc"][-1])
        known = known or _keys_at(model, error["loc"][:-1])
        names = f" Known: {', '.join(known)}." if known else ""
        message = f"unknown key {name!r}.{did_you_mean(name, known)}{names}"
    elif rule is not None:
        message = f"{rule}."
    else:
        said = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
        message = f"{_lower_first(said)}; got {shorten(error['input'])}."
    places = {_known_prefix(file, (*at, *other["loc"]), minimum=len(at) + 1) for other in errors}
    more = f" ({len(places) - 1} more in this file.)" if len(places) > 1 else ""
    return file.error(location, message + more)


def _keys_at(model: Any, location: Location) -> tuple[str, ...]:
    """The keys of the pydantic model that is found by following `location` into `model`."""
    for part in location:
        fields = getattr(model, "model_fields", {})
        model = fields[part].annotation if part in fields else (get_args(model) or (None,))[-1]
    return tuple(getattr(model, "model_fields", ()))


def _known_prefix(file: YamlFile, location: Location, *, minimum: int) -> Location:
    kept = location[:minimum]
    for part in location[minimum:]:
        if (*kept, part) in file.lines:
            kept = (*kept, part)
    return kept


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

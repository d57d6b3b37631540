"""An architecture as one line of text, and the hash that names it.

    starnet:embed_dim=24,depths=2-2-8-3,ops=star-star-sum-star

What is not named is StarNet-S1's; a value that holds in every stage is written once.
"""

from __future__ import annotations

import hashlib
from typing import Any

from starsearch.errors import ArchitectureError, did_you_mean
from starsearch.families.anchors import ANCHORS
from starsearch.families.fields import FAMILIES, FIELDS, ArchitectureField
from starsearch.families.starnet import Architecture

# Always written, even when they are S1's: a reader wants the size of a network first.
_ALWAYS = ("embed_dim", "depths")


def format_architecture(architecture: Architecture) -> str:
    """The canonical one-line text; `parse_architecture` reads it back as an equal architecture."""
    return _format(architecture.canonical(), is_short=True)


def _format(canonical: Architecture, *, is_short: bool) -> str:
    """The text; where `is_short`, a value that holds in every stage with blocks is written once."""
    parts = []
    for name, rule in FIELDS.items():
        value = getattr(canonical, name)
        if is_short and rule.of_blocks:
            used = {one for one, depth in zip(value, canonical.depths, strict=True) if depth}
            value = (used.pop(),) * len(value) if len(used) == 1 else value
        if name == "family" or value is None or (name == "embed_dim" and canonical.widths is not None):
            continue
        if name in _ALWAYS or not _is_default(rule, value):
            parts.append(f"{name}={format_value(name, value)}")
    return f"{canonical.family}:{','.join(parts)}"


def parse_architecture(text: str) -> Architecture:
    """The canonical architecture that `text` names: an anchor's name or a one-line text.

    Raises:
        ArchitectureError: unknown name or field, or a value that breaks a rule.
    """
    name, colon, body = text.strip().partition(":")
    if not colon:
        if name in ANCHORS:
            return ANCHORS[name]
        raise ArchitectureError(
            f"Unknown architecture {name!r}.{did_you_mean(name, ANCHORS)} Known by name: {', '.join(ANCHORS)}; "
            "or write one, as starnet:embed_dim=24,depths=2-2-8-3,ops=star-star-sum-star."
        )
    if name not in FAMILIES:
        raise ArchitectureError(f"Unknown family {name!r} in {text!r}. Known: {', '.join(FAMILIES)}.")
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in body.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ArchitectureError(f"Write field=value; got {part!r} in {text!r}.")
        if key not in FIELDS or key == "family":
            known = [known for known in FIELDS if known != "family"]
            raise ArchitectureError(
                f"Unknown field {key!r} in {text!r}.{did_you_mean(key, known)} StarNet has: {', '.join(known)}."
            )
        if key in values:
            raise ArchitectureError(f"Field {key!r} stands twice in {text!r}.")
        values[key] = parse_value(FIELDS[key], value)
    if "widths" in values and isinstance(values["widths"], tuple):
        values.setdefault("embed_dim", values["widths"][0])
    return Architecture.of(family=name, **values).canonical()


def architecture_hash(architecture: Architecture) -> str:
    """12 hexadecimal digits that equal networks share; stable across versions that add fields."""
    # Of the long text, which was the only one when the first studies were recorded.
    text = _format(architecture.canonical(), is_short=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_default(rule: ArchitectureField, value: Any) -> bool:
    if rule.per_stage and rule.of_blocks:
        return set(value) == {rule.default[0]}
    return bool(value == rule.default)


def format_value(name: str, value: Any, *, whole: bool = False) -> str:
    """A field's value as text; what is equal in all stages is written once, unless `whole`."""
    if not isinstance(value, tuple):
        return _format_one(value)
    if FIELDS[name].of_blocks and len(set(value)) == 1 and not whole:
        return _format_one(value[0])
    return "-".join(_format_one(one) for one in value)


def _format_one(value: Any) -> str:
    # repr of a float is the shortest text that reads back as the same number.
    return repr(value) if isinstance(value, float) else str(value)


def parse_value(rule: ArchitectureField, text: str) -> Any:
    """A field's value from its text.

    Raises:
        ArchitectureError: the text is not a value of this field.
    """
    if not rule.per_stage:
        return rule.parse(text)
    parts = text.split("-")
    if len(parts) == 1 and rule.of_blocks:
        return rule.parse(text)
    return tuple(rule.parse(part) for part in parts)

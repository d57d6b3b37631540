"""An architecture as one line of text, and the hash that names it.

    starnet:embed_dim=24,depths=2-2-8-3,ops=star-star-sum-star

What is not named has the family's default; a value that holds in every stage is written once.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from starsearch.errors import ArchitectureError, did_you_mean, some
from starsearch.families.family import Architecture, find_family, presets
from starsearch.families.fields import rules_of
from starsearch.families.timm import TIMM, TimmArchitecture

# Always written, even when they are the defaults: a reader wants the size of a network first.
_ALWAYS = ("embed_dim", "width", "depths")


def format_architecture(architecture: Architecture) -> str:
    """Return the canonical one-line text; `parse_architecture` reads it back as an equal architecture."""
    return _format(architecture.canonical(), is_short=True)


def _format(canonical: Architecture, *, is_short: bool) -> str:
    """The text; where `is_short`, a value that holds in every stage with blocks is written once."""
    if isinstance(canonical, TimmArchitecture):
        return TIMM + canonical.name
    parts = []
    for name, rule in rules_of(type(canonical)).items():
        value = getattr(canonical, name)
        if value is None or (name == "embed_dim" and getattr(canonical, "widths", None) is not None):
            continue
        if is_short and rule.of_blocks:
            used = {one for one, depth in zip(value, canonical.depths, strict=True) if depth}
            value = (used.pop(),) * len(value) if len(used) == 1 else value
        is_default = set(value) == {rule.default[0]} if rule.of_blocks else value == rule.default
        if name in _ALWAYS or not is_default:
            parts.append(f"{name}={rule.format(value)}")
    return f"{canonical.family}:{','.join(parts)}"


def parse_architecture(text: str) -> Architecture:
    """Return the canonical architecture that `text` names: a published one's name or a one-line text.

    >>> format_architecture(parse_architecture("starnet_s1"))
    'starnet:embed_dim=24,depths=2-2-8-3'
    >>> parse_architecture("starnet:embed_dim=16,ops=sum").ops
    ('sum', 'sum', 'sum', 'sum')

    Raises:
        ArchitectureError: an unknown name or field, or a value that breaks a rule.
    """
    family, colon, body = text.strip().partition(":")
    if not colon:
        known = presets()
        if family in known:
            return known[family]
        raise ArchitectureError(
            f"Unknown architecture {family!r}.{did_you_mean(family, known)} Known by name: {some(known, most=8)}; "
            "or write one, as starnet:embed_dim=24,depths=2-2-8-3,ops=star-star-sum-star."
        )
    if family == TimmArchitecture.family:
        return TimmArchitecture(name=body)
    kind = find_family(family)
    rules = rules_of(kind)
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in body.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ArchitectureError(f"Write field=value; got {part!r} in {text!r}.")
        if name not in rules:
            raise ArchitectureError(
                f"Unknown field {name!r} in {text!r}.{did_you_mean(name, rules)} {kind.title} has: {', '.join(rules)}."
            )
        if name in values:
            raise ArchitectureError(f"Field {name!r} is given twice in {text!r}.")
        values[name] = rules[name].parse(value)
    if isinstance(values.get("widths"), tuple):
        values.setdefault("embed_dim", values["widths"][0])
    return Architecture.of(family, **values).canonical()


@lru_cache(maxsize=100_000)  # a search asks it of each network of its pool again and again
def architecture_hash(architecture: Architecture) -> str:
    """Return 12 hexadecimal digits that equal networks share; a new field at its default does not change them."""
    # Of the long text, which was the only one when the first studies were recorded.
    text = _format(architecture.canonical(), is_short=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

"""The formats a trained network is exported in, a file each; `starsearch.export.format` says what one is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection

from starsearch.errors import ExportError, did_you_mean
from starsearch.export.format import Format


def formats() -> dict[str, Format]:
    """Return the known formats by name, in the order they are written in: a whole folder before files in it."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found: list[Format] = [one for module in modules for one in module.FORMATS]
    return {one.name: one for one in sorted(found, key=lambda one: one.file != ".")}


def find_formats(names: Collection[str]) -> list[Format]:
    """Return the formats of these names, in the order they are written in."""
    known = formats()
    for name in names:
        if name not in known:
            raise ExportError(f"Unknown format {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return [known[name] for name in known if name in names]

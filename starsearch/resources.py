"""The files that travel with the package: spaces, runners, recipes and device profiles, found by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from starsearch.errors import SpecError, did_you_mean

Kind = Literal["spaces", "recipe spaces", "runners", "recipes", "profiles"]
# What `starsearch tune` searches lies beside what `starsearch run` searches; the names tell them apart.
_RECIPE_SPACE = "recipe"
_PACKAGE = Path(__file__).parent


def shipped_folder(kind: Kind) -> Path:
    """Return where the shipped files of this kind are: in the wheel, or in the checkout beside the package."""
    if kind in ("recipes", "profiles"):
        return _PACKAGE / kind
    folder = "spaces" if kind == "recipe spaces" else kind
    in_wheel = _PACKAGE / "shipped" / folder
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / folder


def shipped_names(kind: Kind) -> tuple[str, ...]:
    """Return the names under which shipped files of this kind are found."""
    names = sorted(path.stem for path in shipped_folder(kind).glob("*.yaml"))
    if kind in ("spaces", "recipe spaces"):
        names = [name for name in names if name.startswith(_RECIPE_SPACE) == (kind == "recipe spaces")]
    return tuple(names)


def find_file(text: str, kind: Kind, *, beside: Path | None = None) -> Path:
    """Return the YAML file that `text` names: a path, relative to `beside` or the working folder, or a shipped name.

    Raises:
        SpecError: there is neither such a file nor such a name.
    """
    written = Path(text)
    for path in (beside / written, written) if beside is not None else (written,):
        if path.is_file():
            return path
    names = shipped_names(kind)
    if text in names:  # before a folder of that name: a study's folder is called as its space
        return shipped_folder(kind) / f"{text}.yaml"
    if written.is_dir():
        raise SpecError(f"{text} is a folder; name the YAML file in it.")
    raise SpecError(
        f"There is no file {text!r}, and no shipped one of that name.{did_you_mean(written.stem, names)} "
        f"Shipped {kind}: {', '.join(names) or 'none'}."
    )

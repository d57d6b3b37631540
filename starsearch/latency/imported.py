"""Latencies measured elsewhere (a phone, by any app), read from a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from starsearch.errors import ArchitectureError, SpecError, did_you_mean
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.profile import Sample

_NEEDED = ("architecture", "ms")
_OPTIONAL = ("pairs", "spread_ms")
_OVERFLOW = "more"
SHARE = "share."


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The networks of a CSV file with their latencies, in the file's order; `read_measurements` without resolution."""
    return read_measurements(path)[0]


def read_measurements(path: Path) -> tuple[tuple[Sample, ...], int | None]:
    """The networks of a CSV file with their latencies, in the file's order, and at which resolution they were measured.

    Columns: `architecture` (a name, or one line in quotes, since it holds commas) and `ms`; optionally `pairs` with the
    reference network and `spread_ms`, the standard error; `share.KIND`, of the network's time by kind of layer;
    `resolution`, the same in all lines. Other columns are passed over, as are lines whose `ms` was left empty.

        architecture,ms
        starnet_s1,0.7
        "starnet:embed_dim=24,depths=2-2-8-3,ops=sum",0.6

    Raises:
        SpecError: the file cannot be read, a column is missing, or a line breaks a rule; the text names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin their files with a mark
            reader = csv.DictReader(file, restkey=_OVERFLOW, skipinitialspace=True)
            _check_columns(reader.fieldnames or (), path)
            rows = [(row, f"{path}, line {reader.line_num}") for row in reader if row["ms"] != ""]
    except OSError as error:
        raise SpecError(f"The latencies {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{path} is no CSV file in UTF-8: {error}.") from error
    samples = tuple(_read_row(row, where) for row, where in rows)
    if not samples:
        raise SpecError(f"{path} holds no latencies. Write a line a network, as: starnet_s1,0.7")
    resolutions = {
        int(_read_number(row["resolution"], "resolution", where, whole=True))
        for row, where in rows
        if row.get("resolution")
    }
    if len(resolutions) > 1:
        raise SpecError(f"{path} is of networks at {sorted(resolutions)} px; a profile is of one resolution.")
    return samples, next(iter(resolutions), None)


def _check_columns(found: object, path: Path) -> None:
    columns = [str(name) for name in found] if isinstance(found, (list, tuple)) else []
    for name in _NEEDED:
        if name not in columns:
            raise SpecError(
                f"{path} needs a column {name!r} in its first line.{did_you_mean(name, columns)} "
                f"It has: {', '.join(columns) or 'none'}. Columns are {', '.join(_NEEDED)} and, if known, "
                f"{', '.join(_OPTIONAL)}, parted by commas."
            )


def _read_row(row: Mapping[str, str], where: str) -> Sample:
    if _OVERFLOW in row:
        raise SpecError(f"{where}: more values than columns. An architecture that holds commas stands in quotes.")
    spread = row.get("spread_ms")
    return Sample(
        architecture=_read_architecture(row["architecture"] or "", where),
        ms=_read_number(row["ms"], "ms", where, positive=True),
        pairs=int(_read_number(row.get("pairs") or "0", "pairs", where, whole=True)),
        spread_ms=_read_number(spread, "spread_ms", where) if spread else None,
        shares={
            column.removeprefix(SHARE): _read_number(text, column, where)
            for column, text in row.items()
            if column.startswith(SHARE) and text
        },
    )


def _read_architecture(text: str, where: str) -> str:
    try:
        return format_architecture(parse_architecture(text))
    except ArchitectureError as error:
        raise SpecError(f"{where}: {error}") from error


def _read_number(text: str | None, name: str, where: str, *, positive: bool = False, whole: bool = False) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (positive and value == 0) or (whole and value != int(value)):
        rule = "a number above 0" if positive else "a whole number from 0 on" if whole else "a number from 0 on"
        raise SpecError(f"{where}: {name} is {rule}; got {text!r}.")
    return value

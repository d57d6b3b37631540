"""`Sample`: one network's latency, and the CSV files in which samples are kept, shared and brought from elsewhere."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starsearch.errors import ArchitectureError, SpecError, did_you_mean
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.files import written_whole
from starsearch.resolution import Between, Resolution, area

_NEEDED = ("architecture", "ms")
_OPTIONAL = ("pairs", "spread_ms")
_OVERFLOW = "more"
_SHARE = "share."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One network's latency on the device: what a profile is fitted to.

    It is of the very layers that the architecture names; what is deployed may have padded channels.
    """

    architecture: str  # one-line text
    ms: float  # what was measured
    pairs: int = 0  # how many with the reference network; 0 where it was not measured in pairs (an imported figure)
    spread_ms: float | None = None  # standard error of `ms`; None where it is not known
    shares: Mapping[str, float] = field(default_factory=dict)  # of its time by kind of layer, as a profiler told


def read_measurements(path: Path) -> tuple[tuple[Sample, ...], Resolution | None]:
    """Return the networks of a CSV file with their latencies, and the resolution they were measured at, if it says.

    Columns: `architecture` (a name, or one line in quotes, since it holds commas) and `ms`; optionally `pairs` with the
    reference network and `spread_ms`, the standard error; `share.KIND`, the share of the network's time by kind of
    layer; `resolution`, the same in all lines. Other columns are ignored, as are lines whose `ms` was left empty.

        architecture,ms
        starnet_s1,0.7
        "starnet:embed_dim=24,depths=2-2-8-3,ops=sum",0.6
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
        raise SpecError(f"{path} holds no latencies. Write one line per network, for example: starnet_s1,0.7")
    try:
        resolutions = {Between(1, 4096)(row["resolution"]) for row, _ in rows if row.get("resolution")}
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    if len(resolutions) > 1:
        raise SpecError(f"{path} is of networks at {sorted(resolutions, key=area)} px; a profile is of one resolution.")
    return samples, next(iter(resolutions), None)


def save_samples(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as CSV, whole or not at all."""
    kinds = sorted({kind for sample in samples for kind in sample.shares})
    with written_whole(path, "the samples", error=SpecError) as partial, partial.open("w", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_NEEDED, *_OPTIONAL, *(f"{_SHARE}{kind}" for kind in kinds)])
        for sample in samples:
            spread = "" if sample.spread_ms is None else f"{sample.spread_ms:.6g}"
            shares = (f"{sample.shares[kind]:.5g}" if kind in sample.shares else "" for kind in kinds)
            writer.writerow([sample.architecture, f"{sample.ms:.6g}", sample.pairs, spread, *shares])


def _check_columns(columns: Sequence[str], path: Path) -> None:
    for name in _NEEDED:
        if name not in columns:
            raise SpecError(
                f"{path} needs a column {name!r} in its first line.{did_you_mean(name, columns)} "
                f"It has: {', '.join(columns) or 'none'}. Columns are {', '.join(_NEEDED)} and, if known, "
                f"{', '.join(_OPTIONAL)}, separated by commas."
            )


def _read_row(row: Mapping[str, str], where: str) -> Sample:
    if _OVERFLOW in row:
        raise SpecError(f"{where}: more values than columns. Put an architecture that holds commas in quotes.")
    try:
        architecture = format_architecture(parse_architecture(row["architecture"] or ""))
    except ArchitectureError as error:
        raise SpecError(f"{where}: {error}") from error
    spread = row.get("spread_ms")
    return Sample(
        architecture=architecture,
        ms=_read_number(row["ms"], "ms", where, positive=True),
        pairs=int(_read_number(row.get("pairs") or "0", "pairs", where, whole=True)),
        spread_ms=_read_number(spread, "spread_ms", where) if spread else None,
        shares={
            column.removeprefix(_SHARE): _read_number(text, column, where)
            for column, text in row.items()
            if column.startswith(_SHARE) and text
        },
    )


def _read_number(text: str | None, name: str, where: str, *, positive: bool = False, whole: bool = False) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (positive and value == 0) or (whole and value != int(value)):
        rule = "a number above 0" if positive else "a whole number from 0 on" if whole else "a number from 0 on"
        raise SpecError(f"{where}: {name} must be {rule}; got {text!r}.")
    return value

"""The table: one row for each training of a network, and for each latency and all signals of one.

While rows are made they are appended to `rows.jsonl`, each whole as it ends; the compressed table holds all of them,
keyed by fidelity, network and seed.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from starsearch.errors import SpecError, StudyError, first_line
from starsearch.files import written_whole

TABLE = "starbench.csv.xz"
KEY = ("fidelity", "network", "seed")
LATENCY_ROWS, SIGNAL_ROWS = "latency", "signals"  # what stands as the fidelity of rows that are no trainings
SIGNAL = "signal/"  # before a signal's name: its column
_ROWS = "rows.jsonl"
_COLUMNS = (
    *KEY,
    "name",  # the published network's, or that with "-sum" behind it for its twin whose stages all sum
    "macs",  # at 224 px with 1000 classes, as all that follows but the training's own figures
    "num_params",
    "top1_percent",  # after the last epoch
    "curve",  # top-1 in percent after each epoch
    "seconds",  # of the wall clock, training and validation
    "cpu_seconds",  # of all threads, training and validation
    "threads",
    "failed",  # why a training has no top-1
    "latency_ms",  # batch 1, one thread
    "latency_spread_ms",  # its standard error
    "reference_ms",  # the reference network's time, on whose scale all latencies are
    "device",
    "conditions",  # a digest of what rows of one fidelity share: fidelity, recipe, data; or device
)


def read_table(folder: Path) -> pd.DataFrame:
    """Return the rows of a folder, packed or still in the making; none where there is no table.

    Raises:
        StudyError: a file cannot be read as such a table, or its rows were made under different conditions.
    """
    return join_rows(read_rows(path) for path in table_files(folder))


def table_files(folder: Path) -> list[Path]:
    """Return the files that have a folder's rows, packed or still in the making; none where it is no table's."""
    return [path for path in (folder / TABLE, folder / _ROWS) if path.is_file()]


def read_rows(path: Path) -> pd.DataFrame:
    """Return the rows of one file, a packed table or one in the making, whose last line may be cut off."""
    try:
        rows = pd.DataFrame(_whole_lines(path)) if path.suffix == ".jsonl" else pd.read_csv(path)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise StudyError(f"{path} cannot be read as a StarBench table: {first_line(error)}") from error
    missing = [name for name in KEY if name not in rows] if len(rows) else []
    if missing:
        raise StudyError(f"{path} is no StarBench table: it lacks the column {missing[0]!r}.")
    return rows


def join_rows(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several parts; of rows with one key the first.

    Raises:
        StudyError: two parts have rows of one fidelity that were made under different conditions.
    """
    filled = [part.dropna(axis="columns", how="all") for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=list(_COLUMNS))
    rows = pd.concat(filled, ignore_index=True)
    signals = sorted(name for name in map(str, rows) if name.startswith(SIGNAL))
    rows = rows.reindex(columns=[*_COLUMNS, *signals])
    for fidelity, group in rows.groupby("fidelity"):
        if len(set(group["conditions"].dropna())) > 1:
            raise StudyError(
                f"The rows of the fidelity {fidelity!r} were made under different conditions (another recipe, data "
                "set, fidelity or device) and cannot be compared: keep them in tables of their own."
            )
    rows = rows.drop_duplicates(subset=list(KEY), ignore_index=True)
    return rows.sort_values(list(KEY), ignore_index=True)


def parse_curves(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return (rows, epochs): top-1 in percent after each epoch."""
    return np.array([[float(value) for value in curve.split()] for curve in rows["curve"]])


def quiet_seconds(rows: pd.DataFrame) -> pd.Series[float]:
    """Return what each training takes on a machine that does nothing else.

    What else runs costs the wall clock, but not the processor's.
    """
    return rows["seconds"].clip(upper=rows["cpu_seconds"] / rows["threads"])


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """Append a row to those in the making; it is on the disk when this returns."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _ROWS).open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(row)}\n")  # on a line of its own, also after one that a kill has cut off
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StudyError(f"A row cannot be written to {folder / _ROWS}: {error.strerror or error}.") from error


def write_table(folder: Path, others: Iterable[Path] = ()) -> Path:
    """Pack the folder's rows, and those of tables made elsewhere, into its table; return its path.

    Raises:
        SpecError: one of the others is not there.
        StudyError: the rows do not belong together.
    """
    parts = [read_table(folder)]
    for path in others:
        if not (files := [path] if path.is_file() else table_files(path)):
            raise SpecError(f"There is no table {path}: name a folder with {TABLE}, or the file.")
        parts += [read_rows(file) for file in files]
    rows = join_rows(parts)
    with written_whole(folder / TABLE, "the table") as partial:
        rows.to_csv(partial, index=False, compression={"method": "xz", "preset": 9})
    return folder / TABLE


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):  # empty, or cut off
            yield json.loads(line)

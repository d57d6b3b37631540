"""What the benchmarks share: options, rounds by turns, tables and CSV files."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd


def read_options(doc: str, *, out: bool = True, **flags: Any) -> argparse.Namespace:
    """Options from their defaults: a list takes several values, False is a switch, None a path; `--out` a CSV file."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (flags | ({"out": None} if out else {})).items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(option, nargs="*", type=type(default[0]) if default else int, default=default)
        else:
            parser.add_argument(option, type=Path if default is None else type(default), default=default)
    print(machine())
    return parser.parse_args()


def machine() -> str:
    """The machine and the libraries' versions, in a line."""
    from importlib.metadata import version

    names = ("torch", "timm", "optuna", "ray", "onnxruntime")
    return f"{platform.processor() or platform.machine()}, " + ", ".join(f"{name} {version(name)}" for name in names)


def by_turns(rounds: int, ways: dict[str, Callable[[int], float]], *, warm_up: bool = False) -> pd.DataFrame:
    """Run each way in every round; columns round, way, value. A warm-up round is not counted."""
    rows = []
    for number in range(-warm_up, rounds):
        for way, run in ways.items():
            value = run(number)
            if number >= 0:
                rows.append({"round": number, "way": way, "value": value})
                print(f"round {number}  {way}: {value:.4g}", flush=True)
    return pd.DataFrame(rows)


def summarize(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Median, least and greatest of each way."""
    found = rows.groupby("way", sort=False)["value"].agg(["median", "min", "max"])
    return found.rename(columns={"median": f"{unit} (median)"})


def ratio(rows: pd.DataFrame, ours: str, peer: str) -> float:
    """The median over the rounds of ours by the peer's."""
    wide = rows.pivot_table(index="round", columns="way", values="value")
    return float((wide[ours] / wide[peer]).median())


def seconds(run: Callable[..., object], *arguments: object) -> float:
    """How long `run` takes."""
    began = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - began


def time_pair(graphs: tuple[bytes, bytes], limits: Any = None, seed: Any = 0) -> Any:
    """Time the first of two ONNX graphs against the second on the processor, in several sessions by turns."""
    import numpy as np

    from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
    from starsearch.latency.paired import COPIES, Copies, PairLimits, measure_paired
    from starsearch.progress import follow

    limits, rng = limits or PairLimits(min_pairs=40, max_pairs=60, half_width=0.005), np.random.default_rng(seed)
    timers = [Copies(lambda graph=graph: OnnxRuntimeTimer(graph, rng=rng), COPIES) for graph in graphs]
    return follow(measure_paired(*timers, rng=rng, limits=limits))


def in_folder(run: Callable[[Path], float]) -> float:
    """What `run` returns, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder))


def collected(rows: Iterable[dict[str, object]], out: Path | None) -> pd.DataFrame:
    """The rows as a table, printed and written as they come, so that an interrupted run keeps what it has."""
    table = pd.DataFrame()
    for row in rows:
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        print(
            "  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()), flush=True
        )
        write(table, out)
    return table


def write(table: pd.DataFrame, out: Path | None, *, index: bool = False) -> None:
    """The table as CSV, where a file is wanted."""
    if out is not None:
        table.to_csv(out, index=index, float_format="%.6g", lineterminator="\n")


def show(table: pd.DataFrame, *, index: bool = True) -> None:
    """Print the table as Markdown."""
    print("\n" + "\n".join(markdown(table.reset_index() if index else table)))


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| " + " | ".join(map(str, table.columns)) + " |"
    yield "|---" * len(table.columns) + "|"
    for row in table.itertuples(index=False):
        yield "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row) + " |"


def gate(name: str, value: float, least: float) -> None:
    """Say whether a figure reaches its gate; exit with 1 where it does not."""
    print(f"{name}: {value:.2f} (gate {least})")
    if value < least:
        sys.exit(1)

"""How well one measurement repeats: the paired protocol against mean-of-N, on a quiet machine and beside a busy core.

    python studies/benchmarks/latency/repeatability.py [--repeats 20] [--pairs 40] [--out repeatability.csv]

Each repeat is a process of its own and measures every network once, by both ways in turns: pairs with the reference
network (12 runs of each, in the order ABBA), and the mean of as many plain wall-clock runs as 40 pairs have of the
network (480), after 10 warm-up runs (the way of the paper's script and of timm's benchmark.py). Half of the repeats
run while another process keeps one core busy.
Reported: the standard deviation over the repeats, in percent of their mean, with its 95 % confidence interval
(chi-squared).
Gate: at most 0.8 % for networks of 5 ms and more, at most 3 % at 1 ms.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights
from starsearch.families.family import Architecture, lower, presets
from starsearch.latency.backends.onnxruntime import build_session
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import DEFAULT_LIMITS
from starsearch.latency.reference import Reference, calibrate_reference
from starsearch.progress import follow

# The smallest published network at a fifth of its pixels takes about a millisecond.
NETWORKS: dict[str, tuple[Architecture, int]] = {
    "1 ms (S050 at 96 px)": (presets()["starnet_s050"], 96),
    "starnet_s050": (presets()["starnet_s050"], 224),
    "starnet_s1": (presets()["starnet_s1"], 224),
    "starnet_s2": (presets()["starnet_s2"], 224),
    "starnet_s4": (presets()["starnet_s4"], 224),
}
QUIET, BUSY = "quiet", "one core busy"
COLUMNS = ["machine", "network", "protocol", "repeat", "ms"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """For the processes that are started inside."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def busy_core() -> Iterator[None]:
    """A process that multiplies matrices until the end of the block."""
    process = multiprocessing.get_context("spawn").Process(target=compute, daemon=True)
    with one_blas_thread():
        process.start()
    time.sleep(2)  # it imports NumPy
    try:
        yield
    finally:
        process.terminate()
        process.join()


def compute() -> None:
    """On one thread (BLAS reads OMP_NUM_THREADS and its like when it is loaded, in `busy_core`)."""
    matrix = np.random.default_rng(0).standard_normal((256, 256))
    parent = os.getppid()
    while os.getppid() == parent:  # a killed benchmark takes it along
        matrix @ matrix


def mean_of_runs(architecture: Architecture, resolution: int, *, seed: int, runs: int) -> float:
    """Milliseconds a run by the wall clock, as the usual scripts have it."""
    rng = np.random.default_rng(seed)
    layers = lower(architecture, resolution=resolution)
    session = build_session(build_onnx(layers, random_weights(layers, rng)), threads=1)
    image = {"input": rng.standard_normal((1, 3, resolution, resolution), dtype=np.float32)}
    for _ in range(10):
        session.run(None, image)
    begin = time.perf_counter()
    for _ in range(runs):
        session.run(None, image)
    return 1e3 * (time.perf_counter() - begin) / runs


def measure_once(
    machine: str, number: int, pairs: int, names: Sequence[str], reference: Reference, with_mean: bool
) -> list[dict[str, object]]:
    """All networks once, by both protocols; run in a process of its own."""
    limits = replace(DEFAULT_LIMITS, min_pairs=pairs, max_pairs=pairs, half_width=0.0)
    runs = pairs * limits.runs
    rows = []
    for name in names:
        architecture, resolution = NETWORKS[name]
        spec = MeasureSpec(limits=limits, seed=number, resolution=resolution, reference=reference)
        readings = {
            f"{pairs} pairs": follow(measure(architecture, spec)).ms,
        }
        if with_mean:
            readings[f"mean of {runs} runs"] = mean_of_runs(architecture, resolution, seed=number, runs=runs)
        head = {"machine": machine, "network": name, "repeat": number}
        rows += [{**head, "protocol": protocol, "ms": f"{ms:.5f}"} for protocol, ms in readings.items()]
    return rows


def repeat(
    machine: str, repeats: int, pairs: int, names: Sequence[str], reference: Reference, with_mean: bool
) -> Iterator[dict[str, object]]:
    for number in range(repeats):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield from process.submit(measure_once, machine, number, pairs, names, reference, with_mean).result()
        print(f"\r{machine}: repeat {number + 1}/{repeats} ", end="", flush=True)


def summarize(rows: list[dict[str, object]]) -> Iterator[str]:
    """A line a machine, network and protocol."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        key = (str(row["machine"]), str(row["network"]), str(row["protocol"]))
        groups.setdefault(key, []).append(float(str(row["ms"])))
    yield "| machine | network | protocol | mean ms | std, % (95 % interval) |\n|---|---|---|---|---|"
    for (machine, network, protocol), ms in groups.items():
        mean, std, freedom = statistics.mean(ms), statistics.stdev(ms), len(ms) - 1
        low, high = (100 * std / mean * (freedom / chi2.ppf(q, freedom)) ** 0.5 for q in (0.975, 0.025))
        yield f"| {machine} | {network} | {protocol} | {mean:.2f} | {100 * std / mean:.2f} ({low:.2f}–{high:.2f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="on either machine")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), help="some of them")
    parser.add_argument("--pairs-only", action="store_true", help="no plain means beside")
    parser.add_argument("--machines", nargs="*", default=[QUIET, BUSY], choices=[QUIET, BUSY], help="one of them")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    reference = calibrate_reference()
    rows = []
    for machine in options.machines:
        with busy_core() if machine == BUSY else nullcontext():
            rows += repeat(machine, options.repeats, options.pairs, options.networks, reference, not options.pairs_only)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()

"""How well one measurement repeats: the paired protocol against mean-of-N, on a quiet machine and beside a busy core.

    python studies/benchmarks/repeatability.py [--repeats 20] [--pairs 40] [--out repeatability.csv]

Each repeat is a process of its own and measures every network once, by both ways in turns: pairs with the reference
network (12 runs of each, in the order ABBA), and the mean of as many plain wall-clock runs as 40 pairs have of the
network (480), after 10 warm-up runs (the way of the paper's script and of timm's benchmark.py). Half of the repeats
run while another process keeps one core busy.
Reported: the standard deviation over the repeats, in percent of their mean, with its 95 % confidence interval
(chi-squared).
Gate: at most 0.8 % for networks of 5 ms and more, at most 3 % at 1 ms.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
from harness import collected, read_options, seconds, show
from scipy.stats import chi2

from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights
from starsearch.families.family import lower, presets
from starsearch.latency.backends.onnxruntime import build_session
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import DEFAULT_LIMITS
from starsearch.latency.reference import calibrate_reference
from starsearch.progress import follow

# The smallest published network at a fifth of its pixels takes about a millisecond.
RESOLUTIONS = {"starnet_s050@96": 96, "starnet_s050": 224, "starnet_s1": 224, "starnet_s2": 224, "starnet_s4": 224}
QUIET, BUSY = "quiet", "one core busy"
# Ends with its parent, so that a killed benchmark leaves nothing behind.
BUSY_CODE = "import os, numpy\nm, p = numpy.eye(256), os.getppid()\nprint(flush=True)\nwhile os.getppid() == p: m @ m"


@contextmanager
def busy_core():
    """A process that multiplies matrices on one thread until the end of the block."""
    command = ["env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", sys.executable, "-c", BUSY_CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # it has imported NumPy
        try:
            yield
        finally:
            process.terminate()


def mean_of_runs(architecture, resolution, *, seed, runs):
    """Milliseconds a run by the wall clock, as the usual scripts have it."""
    rng = np.random.default_rng(seed)
    layers = lower(architecture, resolution=resolution)
    session = build_session(build_onnx(layers, random_weights(layers, rng)), threads=1)
    image = {"input": rng.standard_normal((1, 3, resolution, resolution), dtype=np.float32)}
    for _ in range(10):
        session.run(None, image)
    return 1e3 * seconds(lambda: [session.run(None, image) for _ in range(runs)]) / runs


def measure_once(number, options, reference):
    """All networks once, by both protocols; run in a process of its own."""
    limits = replace(DEFAULT_LIMITS, min_pairs=options.pairs, max_pairs=options.pairs, half_width=0.0)
    runs, rows = options.pairs * limits.runs, []
    for name in options.networks:
        architecture, resolution = presets()[name.split("@")[0]], RESOLUTIONS[name]
        spec = MeasureSpec(limits=limits, seed=number, resolution=resolution, reference=reference)
        rows.append([name, f"{options.pairs} pairs", follow(measure(architecture, spec)).ms])
        if not options.pairs_only:
            mean = mean_of_runs(architecture, resolution, seed=number, runs=runs)
            rows.append([name, f"mean of {runs} runs", mean])
    return rows


def repeats(options):
    """A row a machine, repeat, network and protocol."""
    reference = calibrate_reference()
    for machine in options.machines:
        with busy_core() if machine == BUSY else nullcontext():
            for number in range(options.repeats):
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    found = process.submit(measure_once, number, options, reference).result()
                for network, protocol, ms in found:
                    yield {"machine": machine, "network": network, "protocol": protocol, "repeat": number, "ms": ms}


def spread(ms):
    """The standard deviation in percent of the mean, and its 95 % interval."""
    freedom, percent = len(ms) - 1, 100 * ms.std() / ms.mean()
    low, high = (percent * (freedom / chi2.ppf(q, freedom)) ** 0.5 for q in (0.975, 0.025))
    return f"{percent:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    flags = {"networks": list(RESOLUTIONS), "machines": [QUIET, BUSY], "pairs_only": False}
    options = read_options(__doc__, repeats=20, pairs=40, **flags)
    rows = collected(repeats(options), options.out).groupby(["machine", "network", "protocol"], sort=False)["ms"]
    show(rows.agg(**{"mean ms": "mean", "std, % (95 % interval)": spread}))

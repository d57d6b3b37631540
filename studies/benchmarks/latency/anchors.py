"""S1–S4 and their all-sum twins, measured here, beside the paper's column for a Xeon E5-2680 v4 (table 8).

    python studies/benchmarks/latency/anchors.py [--rounds 2] [--out anchors.csv]

One thread, ONNX Runtime; medians over the rounds, 40 to 60 pairs each. Compared are ratios, not milliseconds:
S2/S1, S3/S1, S4/S1 and star/sum.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import read_options, show, write

from starsearch.families.family import presets
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import PairLimits
from starsearch.latency.reference import calibrate_reference
from starsearch.progress import follow
from starsearch.resources import shipped_folder

NAMES = ["starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4"]
LIMITS = PairLimits(min_pairs=40, max_pairs=60, half_width=0.005)


def measure_here(rounds):
    reference = calibrate_reference()
    for number in range(rounds):
        for name in NAMES:
            for op in ("star", "sum"):
                network = replace(presets()[name], ops=(op,) * 4)
                measured = follow(measure(network, MeasureSpec(seed=number, limits=LIMITS, reference=reference)))
                yield {"model": name, "op": op, "ms": measured.ms}


if __name__ == "__main__":
    options = read_options(__doc__, rounds=2)
    published = pd.read_csv(shipped_folder("profiles") / "published" / "latency_ms.csv", comment="#")
    published = published[published["device"] == "e5-2680v4"]
    rows = pd.DataFrame(measure_here(options.rounds)).groupby(["model", "op"], sort=False)["ms"]
    table = rows.agg(ms_here="median", least="min", most="max")
    table["ms_paper"] = published.set_index(["model", "op"])["ms"]
    write(table, options.out, index=True)
    shown = pd.DataFrame({"star ms here": table["ms_here"].xs("star", level="op")})
    for where, column in (("here", "ms_here"), ("in the paper", "ms_paper")):
        star, summed = (table[column].xs(op, level="op") for op in ("star", "sum"))
        shown[f"by S1 {where}"], shown[f"star/sum {where}"] = star / star["starnet_s1"], star / summed
    show(shown)

"""S1–S4 and their all-sum twins, measured here, beside the paper's column for a Xeon E5-2680 v4 (table 8).

    python studies/benchmarks/latency/anchors.py [--rounds 2] [--out anchors.csv]

One thread, ONNX Runtime; medians over the rounds, 40 to 60 pairs each. Compared are ratios, not milliseconds:
S2/S1, S3/S1, S4/S1 and star/sum.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from dataclasses import replace
from pathlib import Path

from starsearch.families.family import presets
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import PairLimits
from starsearch.latency.reference import calibrate_reference
from starsearch.progress import follow
from starsearch.resources import shipped_folder

NAMES = ("starnet_s1", "starnet_s2", "starnet_s3", "starnet_s4")
LIMITS = PairLimits(min_pairs=40, max_pairs=60, half_width=0.005)
PAPER = "e5-2680v4"


def read_paper() -> dict[tuple[str, str], float]:
    path = shipped_folder("profiles") / "published" / "latency_ms.csv"
    with path.open(encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {(row["model"], row["op"]): float(row["ms"]) for row in rows if row["device"] == PAPER}


def measure_here(rounds: int) -> dict[tuple[str, str], list[float]]:
    reference = calibrate_reference()
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for name in NAMES:
            for op in ("star", "sum"):
                network = replace(presets()[name], ops=(op,) * 4)
                measured = follow(measure(network, MeasureSpec(seed=number, limits=LIMITS, reference=reference)))
                found.setdefault((name, op), []).append(measured.ms)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    paper, rounds = read_paper(), measure_here(options.rounds)
    here = {key: statistics.median(ms) for key, ms in rounds.items()}
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "op", "ms_here", "least", "most", f"ms_{PAPER}"])
        for key, ms in here.items():
            writer.writerow([*key, f"{ms:.3f}", f"{min(rounds[key]):.3f}", f"{max(rounds[key]):.3f}", paper[key]])
    print("| network | star ms here | by S1 here | by S1 in the paper | star/sum here | star/sum in the paper |")
    print("|---|---|---|---|---|---|")
    for name in NAMES:
        cells = [f"{here[name, 'star']:.2f}"]
        cells += [f"{table[name, 'star'] / table['starnet_s1', 'star']:.2f}" for table in (here, paper)]
        cells += [f"{table[name, 'star'] / table[name, 'sum']:.3f}" for table in (here, paper)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

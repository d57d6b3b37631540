"""Successive halving against none at an equal compute budget, on learning curves recorded from CIFAR-10 trainings.

    python studies/benchmarks/cluster/halving.py [--curves curves.csv] [--seeds 5] [--eta 3] [--out halving.csv]
    python studies/benchmarks/cluster/halving.py --record studies/curves     # curves.csv from a study of curves.yaml

Every candidate of the recorded study was trained to its end. Replayed: the candidates come in random order (a seed
each); without halving each is trained to its end, with it they climb rungs by the driver's own rule
(`starsearch.pareto.next_promotion`), who may go on before who is new. Cost is epochs trained. What counts at each cost
is the hypervolume of the front of those trained to the end, as a share of that of all candidates trained to the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from starsearch.pareto import hypervolume, next_promotion, non_dominated

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recorded:
    """A candidate's accuracy after each epoch, in percent, and its latency in ms."""

    curve: tuple[float, ...]
    latency_ms: float


def record(study: Path, out: Path) -> None:
    """The curves of a study's complete trials as CSV."""
    from starsearch.records import open_storage

    storage = open_storage(f"sqlite:///{study}/study.db")
    (found,) = storage.get_all_studies()
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["architecture", "latency_ms", "top1_percent_by_epoch"])
        for trial in storage.get_all_trials(found._study_id):
            if trial.state.name == "COMPLETE":
                curve = [round(value, 4) for _, value in sorted(trial.intermediate_values.items())]
                row = trial.user_attrs["architecture_text"], f"{trial.user_attrs['latency_ms']:.4f}"
                writer.writerow([*row, json.dumps(curve)])


def read(path: Path) -> list[Recorded]:
    with path.open(encoding="utf-8") as file:
        return [
            Recorded(curve=tuple(json.loads(row["top1_percent_by_epoch"])), latency_ms=float(row["latency_ms"]))
            for row in csv.DictReader(file)
        ]


def without(order, epochs):
    """(cost so far, candidate) of each that was trained to its end."""
    for count, candidate in enumerate(order, start=1):
        yield count * epochs, candidate


def with_halving(order, epochs, eta):
    """The same, by rungs at 1/η of the epochs, 1/η² and so on."""
    rungs = []
    while (epochs // eta ** (len(rungs) + 1)) >= 1:
        rungs.insert(0, epochs // eta ** (len(rungs) + 1))
    levels = [([], []) for _ in rungs]  # who is there, who has gone on
    new, cost = iter(order), 0
    while True:
        found = climb(levels, rungs, eta)
        if found is None:
            candidate = next(new, None)
            if candidate is None:
                return
            level, since = 0, 0
        else:
            candidate, level = found
            since = rungs[level - 1]
        until = rungs[level] if level < len(rungs) else epochs
        cost += until - since
        if level < len(rungs):
            levels[level][0].append(candidate)
            levels[level][1].append(False)
        else:
            yield cost, candidate


def climb(levels, rungs, eta):
    """Who goes on now, and to which level."""
    for level in reversed(range(len(rungs))):
        there, gone = levels[level]
        losses = np.array([[-one.curve[rungs[level] - 1], one.latency_ms] for one in there]).reshape(-1, 2)
        row = next_promotion(losses, promoted=np.array(gone, dtype=bool), allowed=np.ones(len(there), bool), eta=eta)
        if row is not None:
            gone[row] = True
            return there[row], level + 1
    return None


def volume(candidates, reference):
    losses = np.array([[-one.curve[-1], one.latency_ms] for one in candidates]).reshape(-1, 2)
    return hypervolume(losses[non_dominated(losses)], reference) if len(losses) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=HERE / "curves.csv")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--eta", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "halving.csv")
    options = parser.parse_args()
    if options.record:
        record(options.record, options.curves)
        return
    candidates = read(options.curves)
    epochs = len(candidates[0].curve)
    losses = np.array([[-one.curve[-1], one.latency_ms] for one in candidates])
    reference = losses.max(axis=0) + 0.1 * np.ptp(losses, axis=0)
    best = volume(candidates, reference)
    costs = [epochs * n for n in range(1, len(candidates) + 1)]
    rows, shares = [], {}
    for seed in range(options.seeds):
        order = [candidates[i] for i in np.random.default_rng(seed).permutation(len(candidates))]
        ways = {
            "without": list(without(order, epochs)),
            f"halving, eta {options.eta}": list(with_halving(order, epochs, options.eta)),
        }
        for way, ended in ways.items():
            for cost in costs:
                there = [candidate for at, candidate in ended if at <= cost]
                share = volume(there, reference) / best
                rows.append([seed, way, cost, len(there), f"{share:.4f}"])
                shares.setdefault((way, cost), []).append(share)
            print(f"seed {seed}: {way}: {len(ended)} trained to the end, {ended[-1][0]} epochs in all")
    with options.out.open("w", newline="", encoding="utf-8") as file:
        header = ["seed", "way", "epochs", "trained_to_the_end", "hypervolume_share"]
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(f"{len(candidates)} candidates of {epochs} epochs; share of the best hypervolume, mean ± standard deviation")
    names = list(dict.fromkeys(way for way, _ in shares))
    print("| epochs | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for cost in costs:
        cells = [
            f"{statistics.mean(s):.3f} ± {statistics.stdev(s):.3f}" for s in (shares[name, cost] for name in names)
        ]
        print(f"| {cost} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""Successive halving against none at an equal compute budget, on learning curves recorded from CIFAR-10 trainings.

    python studies/benchmarks/halving.py [--seeds 5] [--eta 3] [--out halving.csv]
    python studies/benchmarks/halving.py --record studies/curves     # curves.csv from a study of curves.yaml

Every candidate of the recorded study was trained to its end. Replayed: the candidates come in random order (a seed
each); without halving each is trained to its end, with it they pass rungs by the driver's own rule
(`starsearch.pareto.next_promotion`), who may continue before who is new. Cost is epochs trained. What counts at each
cost is the hypervolume of the front of those trained to the end, as a share of that of all candidates.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from harness import read_options, show, write

from starsearch.families.text import format_architecture
from starsearch.pareto import hypervolume, next_promotion, non_dominated
from starsearch.records.record import StudyRecord

CURVES = Path(__file__).parent / "cluster" / "curves.csv"


def record(study):
    """The curves of a study's complete trials as CSV."""
    with closing(StudyRecord.find(f"sqlite:///{study}/study.db", study.name)) as kept:
        trials = [one for one in kept.trials() if one.state == "complete"]
    rows = [
        (
            format_architecture(one.candidate.architecture),
            round(one.values["latency_ms"], 4),
            json.dumps([round(value, 4) for _, value in sorted(one.curve.items())]),
        )
        for one in trials
    ]
    write(pd.DataFrame(rows, columns=["architecture", "latency_ms", "top1_percent_by_epoch"]), CURVES)


def trained(order, losses, eta=None):
    """(cost so far, candidate) of each that was trained to its end; with η by rungs at 1/η of the epochs, and so on."""
    epochs = losses.shape[1]
    rungs = [epochs // eta**power for power in range(10, 0, -1) if epochs // eta**power >= 1] if eta else []
    ends = [*rungs, epochs]
    reached, promoted = [[] for _ in rungs], [[] for _ in rungs]
    new, cost, ended = iter(order), 0, []
    while True:
        for level in reversed(range(len(rungs))):
            there = losses[reached[level], rungs[level] - 1].reshape(-1, 2)
            allowed = np.ones(len(there), dtype=bool)
            row = next_promotion(there, promoted=np.array(promoted[level], dtype=bool), allowed=allowed, eta=eta)
            if row is not None:
                promoted[level][row] = True
                candidate, level = reached[level][row], level + 1
                break
        else:
            candidate, level = next(new, None), 0
            if candidate is None:
                return ended
        cost += ends[level] - (ends[level - 1] if level else 0)
        if level < len(rungs):
            reached[level].append(candidate)
            promoted[level].append(False)
        else:
            ended.append((cost, candidate))


def volume(losses, reference):
    return hypervolume(losses[non_dominated(losses)], reference) if len(losses) else 0.0


def replay(losses, seeds, eta):
    """A row a seed, way and cost."""
    final, epochs = losses[:, -1], losses.shape[1]
    reference = final.max(axis=0) + 0.1 * np.ptp(final, axis=0)
    for seed in range(seeds):
        order = list(np.random.default_rng(seed).permutation(len(losses)))
        ways = {"without": trained(order, losses), f"halving, eta {eta}": trained(order, losses, eta)}
        for way, ended in ways.items():
            for cost in range(epochs, epochs * len(losses) + 1, epochs):
                there = [candidate for at, candidate in ended if at <= cost]
                share = volume(final[there], reference) / volume(final, reference)
                row = {"seed": seed, "way": way, "epochs": cost, "trained_to_the_end": len(there)}
                yield row | {"hypervolume_share": round(share, 4)}


if __name__ == "__main__":
    options = read_options(__doc__, record=None, seeds=5, eta=3)
    if options.record:
        record(options.record)
        sys.exit()
    recorded = pd.read_csv(CURVES)
    curves = np.array([json.loads(curve) for curve in recorded["top1_percent_by_epoch"]])
    latency_ms = np.broadcast_to(recorded["latency_ms"].to_numpy()[:, None], curves.shape)
    rows = pd.DataFrame(replay(np.stack([-curves, latency_ms], axis=-1), options.seeds, options.eta))
    write(rows, options.out)
    shown = {"index": "epochs", "columns": "way", "values": "hypervolume_share"}
    show(rows.pivot_table(**shown, aggfunc=lambda share: f"{share.mean():.3f} ± {share.std():.3f}"))

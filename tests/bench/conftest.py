"""A table whose accuracies and latencies follow a formula, made without any training."""

import math

import numpy as np
import pandas as pd
import pytest

from starsearch.bench.networks import bench_trainings
from starsearch.families.family import count_macs, count_params
from starsearch.families.text import format_architecture
from tests.cli.conftest import starsearch  # noqa: F401 # a fixture

NOISE = 0.4
SEED_EFFECTS = (0.0, 1.5, -1.0)  # of the images that a seed draws, on all networks alike


def top1_of(network):
    stars = sum(op == "star" for op in network.ops) / 4
    return 44 + 4 * math.log10(count_macs(network) / 1e8) + 2 * stars


def latency_of(network):
    return 0.5 + 1.5e-8 * count_macs(network)


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    rng, rows = np.random.default_rng(0), []
    for network, seed in bench_trainings(40):
        macs = count_macs(network)
        top1 = top1_of(network) + SEED_EFFECTS[seed] + rng.normal(0, NOISE)
        training = {
            "fidelity": "proxy",
            "seed": seed,
            "network": format_architecture(network),
            "top1_percent": top1,
            "curve": f"{top1 - 15:.2f} {top1 - 4:.2f} {top1:.2f}",
            "seconds": 20 + macs / 1e7,  # beside another program
            "cpu_seconds": 10 + macs / 2e7,
            "threads": 1,
            "macs": macs,
            "num_params": count_params(network),
            "device": "a processor",
            "conditions": "these",
        }
        latency = {"fidelity": "latency", "seed": 0, "latency_ms": latency_of(network), "device": "a processor"}
        rows += [training, {"network": format_architecture(network), **latency}]
    folder = tmp_path_factory.mktemp("starbench")
    pd.DataFrame(rows).to_csv(folder / "starbench.csv.xz", index=False)
    return folder

"""Channels padded to the vector width: what it gains at width 30, and that the choice never makes a network slower.

    python studies/benchmarks/latency/padding.py [--networks 100] [--width-30 10] [--out padding.csv]

Three sets, drawn with a fixed seed: networks of width 30 (StarNet-S1 at that width, then random ones); as many
networks of spaces/starnet.yaml as of the same ranges without alignment (any width, ratios in quarters). Each is timed
padded against plain as `starsearch export --format onnx` does it; where padding is chosen, what was chosen is timed
against the plain network once more, in new sessions and with other random numbers, so that the choice cannot have
picked its own luck. A network that is not padded is the plain one. Gates: at width 30 at least 1.2 times as fast;
no chosen network of the random ones more than 2 % slower in the fresh pairs.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from starsearch.api.spaces import load_space_of
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import onnx_logits
from starsearch.export.weights import pad_weights, random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer, pad_channels
from starsearch.families.text import format_architecture
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.device import device_fingerprint, vector_width
from starsearch.latency.padded import PaddingChoice, choose_padding
from starsearch.latency.paired import COPIES, Copies, PairedTiming, PairLimits, measure_paired, take_readings
from starsearch.progress import follow

FRESH = PairLimits(min_pairs=40, max_pairs=60, half_width=0.005)
WIDTH_30, UNALIGNED, STARNET = "width 30", "unaligned widths", "spaces/starnet.yaml"
COLUMNS = [
    *("set", "architecture", "multiple", "plain_ms", "padded_by_plain", "low", "high", "pairs", "chosen"),
    *("fresh_ratio", "fresh_low", "fresh_high", "fresh_pairs", "logits_difference"),
]


def draw(rng: np.random.Generator, *, embed_dim: int, ratios: Sequence[float]) -> Architecture:
    """A network of spaces/starnet.yaml's ranges with this width and, stage by stage, one of these ratios."""
    depths = tuple(int(rng.integers(low, high + 1)) for low, high in ((1, 4), (1, 4), (2, 12), (1, 6)))
    return Architecture.of(
        embed_dim=embed_dim,
        depths=depths,
        ops=tuple(str(op) for op in rng.choice(["star", "sum"], 4)),
        activation=str(rng.choice(["none", "one", "both", "post"])),
        mlp_ratio=tuple(float(ratio) for ratio in rng.choice(ratios, 4)),
        kernel_size=int(rng.choice([3, 5, 7])),
    ).canonical()


def draw_sets(networks: int, of_width_30: int, seed: int) -> Iterator[tuple[str, Architecture]]:
    """The networks with the name of their set."""
    rng = np.random.default_rng(seed)
    for number in range(of_width_30):
        first = number == 0
        yield WIDTH_30, Architecture.of(embed_dim=30) if first else draw(rng, embed_dim=30, ratios=range(2, 7))
    for _ in range(networks - networks // 2):
        yield UNALIGNED, draw(rng, embed_dim=int(rng.integers(16, 49)), ratios=np.arange(2, 6.25, 0.25))
    for architecture in itertools.islice(load_space_of("starnet").sample_architectures(networks // 2, seed), networks):
        yield STARNET, architecture


def judge(architecture: Architecture, *, multiple: int, seed: int) -> dict[str, object]:
    """Everything about one network, by column."""
    rng = np.random.default_rng([seed, 1])
    layers = lower(architecture)
    weights = random_weights(layers, rng)
    choice = follow(choose_padding(layers, weights, multiple=multiple, rng=rng))
    padded = pad_channels(layers, multiple=multiple)
    graphs = build_onnx(padded, pad_weights(layers, padded, weights)), build_onnx(layers, weights)
    fresh = time_again(*graphs, np.random.default_rng([seed, 2])) if choice.multiple else None
    plain = OnnxRuntimeTimer(graphs[1], rng=rng)
    return {
        "architecture": format_architecture(architecture),
        "multiple": multiple,
        "plain_ms": f"{statistics.median(take_readings(plain, runs=10)):.3f}",
        **_choice_columns(choice),
        **_fresh_columns(fresh),
        "logits_difference": f"{difference(*graphs, layers):.1e}",
    }


def time_again(candidate: bytes, plain: bytes, rng: np.random.Generator) -> PairedTiming:
    """The two in new sessions."""
    timers = [Copies(partial(OnnxRuntimeTimer, graph, rng=rng), COPIES) for graph in (candidate, plain)]
    return follow(measure_paired(*timers, rng=rng, limits=FRESH))


def difference(padded: bytes, plain: bytes, layers: tuple[Layer, ...]) -> float:
    """Largest difference of the logits of three random images, by their spread."""
    images = np.random.default_rng(0).standard_normal((3, *layers[0].in_shape), dtype=np.float32)
    found, expected = onnx_logits(padded, images), onnx_logits(plain, images)
    return float(np.abs(found - expected).max() / expected.std())


def _choice_columns(choice: PaddingChoice) -> dict[str, object]:
    low, high = (choice.interval.low, choice.interval.high) if choice.interval else (1.0, 1.0)
    ratios = {"padded_by_plain": choice.ratio, "low": low, "high": high}
    return {name: f"{value:.4f}" for name, value in ratios.items()} | {
        "pairs": choice.pairs,
        "chosen": "padded" if choice.multiple else "plain",
    }


def _fresh_columns(fresh: PairedTiming | None) -> dict[str, object]:
    """Where nothing was chosen the network is the plain one: its ratio is 1 without measuring."""
    if fresh is None:
        return {"fresh_ratio": "1.0000", "fresh_low": "", "fresh_high": "", "fresh_pairs": 0}
    ratios = {"fresh_ratio": fresh.ratio, "fresh_low": fresh.interval.low, "fresh_high": fresh.interval.high}
    return {name: f"{value:.4f}" for name, value in ratios.items()} | {"fresh_pairs": fresh.pairs}


def say(rows: list[dict[str, object]]) -> None:
    """The gates in words."""
    for name in (WIDTH_30, UNALIGNED, STARNET):
        these = [row for row in rows if row["set"] == name]
        if not these:
            continue
        speed_ups = [1 / float(str(row["fresh_ratio"])) for row in these]
        chosen = sum(row["chosen"] == "padded" for row in these)
        print(
            f"{name}: {chosen} of {len(these)} padded; as fast as plain ×{statistics.median(speed_ups):.3f} (median), "
            f"{min(speed_ups):.3f} to {max(speed_ups):.3f}; without a choice the worst would be "
            f"×{1 / max(float(str(row['padded_by_plain'])) for row in these):.3f}"
        )
    worst = max(float(str(row["logits_difference"])) for row in rows)
    print(f"largest difference of the logits, by their spread: {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100, help="random ones, half of them of spaces/starnet.yaml")
    parser.add_argument("--width-30", type=int, default=10, help="random ones of width 30")
    parser.add_argument("--multiple", type=int, default=vector_width(), help="of channels; this machine's by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write a row a network as CSV")
    arguments = parser.parse_args()
    print(f"{device_fingerprint().text}, padded to multiples of {arguments.multiple}")
    rows: list[dict[str, object]] = []
    for number, (name, architecture) in enumerate(draw_sets(arguments.networks, arguments.width_30, arguments.seed)):
        rows.append({"set": name} | judge(architecture, multiple=arguments.multiple, seed=arguments.seed + number))
        print("  ".join(str(rows[-1][column]) for column in COLUMNS), flush=True)
        if arguments.out:  # after each, so that an interrupted run keeps what it has
            with arguments.out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
    say(rows)


if __name__ == "__main__":
    main()

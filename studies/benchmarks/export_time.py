"""Architecture to ONNX bytes: `starsearch.export.build_onnx` against `torch.onnx.export`, on random networks.

    python studies/benchmarks/export_time.py [--networks 100] [--peer-networks 5] [--out export_time.csv]

Networks are drawn from the ranges of spaces/starnet.yaml with a fixed seed. Every one is built; on the first few,
torch's two exporters run too, one after the other on the same network. Outputs are compared in ONNX Runtime with
the module's, by the spread of its logits. Gate: median at most 50 ms, at least 50 times as fast as
torch.onnx.export (as it is called today, with dynamo; the older TorchScript exporter stands beside it), outputs within
1e-4.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from starsearch.export import build_onnx, compare_with_torch, state_dict_arrays
from starsearch.families.family import Architecture, count_params, lower
from starsearch.families.network import Network, build_model
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.families.text import format_architecture

RESOLUTION = 224
PEERS = {"torch.onnx.export (dynamo)": True, "torch.onnx.export (TorchScript)": False}
OURS = "build_onnx"
COLUMNS = ["exporter", "networks", "median_ms", "slowest_ms", "times_ours", "worst_difference"]


def draw_architecture(rng: np.random.Generator) -> Architecture:
    """A network of spaces/starnet.yaml's dimensions, each uniform."""
    depths = tuple(int(rng.integers(low, high + 1)) for low, high in ((1, 4), (1, 4), (2, 12), (1, 6)))
    return Architecture.of(
        embed_dim=int(rng.choice(range(16, 49, 4))),
        depths=depths,
        ops=tuple(str(op) for op in rng.choice(BRANCH_OPS, 4)),
        activation=str(rng.choice(ACTIVATION_PLACEMENTS)),
        mlp_ratio=int(rng.integers(2, 7)),
        kernel_size=int(rng.choice((3, 5, 7))),
    )


def settle(model: Network) -> Network:
    """Two batches in training mode: without batch-norm statistics of its own a random star network is chaotic."""
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64))
    return model.eval()


def export_by_torch(model: Network, *, dynamo: bool) -> bytes:
    """The bytes that torch writes, its chatter swallowed."""
    image, buffer = torch.zeros(1, 3, RESOLUTION, RESOLUTION), io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if not dynamo:
            torch.onnx.export(model, (image,), buffer, dynamo=False, input_names=["input"], output_names=["logits"])
            return buffer.getvalue()
        program = torch.onnx.export(model, (image,), dynamo=True, input_names=["input"], output_names=["logits"])
        program.save(buffer)
        return buffer.getvalue()


def timed_ms(export: Callable[[], bytes]) -> tuple[bytes, float]:
    start = time.perf_counter()
    onnx_bytes = export()
    return onnx_bytes, 1e3 * (time.perf_counter() - start)


def build_from_model(architecture: Architecture, model: Network) -> bytes:
    """All of it: lowering, fetching the weights, folding, writing."""
    return build_onnx(lower(architecture, resolution=RESOLUTION), state_dict_arrays(model))


def measure(num_networks: int, num_peers: int, seed: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of each export, by exporter, and the worst difference from torch's logits."""
    rng = np.random.default_rng(seed)
    times_ms: dict[str, list[float]] = {OURS: [], **{name: [] for name in PEERS}}
    worst = dict.fromkeys(times_ms, 0.0)
    build_from_model(Architecture.of(), build_model(Architecture.of()))  # imports onnx
    for number in range(num_networks):
        architecture = draw_architecture(rng)
        torch.manual_seed(seed)
        model = settle(build_model(architecture))
        exporters: dict[str, Callable[[], bytes]] = {OURS: lambda a=architecture, m=model: build_from_model(a, m)}
        if number < num_peers:
            exporters |= {
                name: lambda m=model, dynamo=dynamo: export_by_torch(m, dynamo=dynamo) for name, dynamo in PEERS.items()
            }
        for name, export in exporters.items():
            onnx_bytes, took_ms = timed_ms(export)
            times_ms[name].append(took_ms)
            difference = compare_with_torch(onnx_bytes, model, resolution=RESOLUTION, num_images=2)
            worst[name] = max(worst[name], difference)
        size = count_params(architecture) / 1e6
        print(f"{number + 1:4d}  {size:6.2f} M  {times_ms[OURS][-1]:6.1f} ms  {format_architecture(architecture)}")
    return times_ms, worst


def summarise(times_ms: dict[str, list[float]], worst: dict[str, float]) -> list[dict[str, object]]:
    """A row an exporter; torch's are compared with ours on the same networks."""
    rows: list[dict[str, object]] = []
    for name, taken in times_ms.items():
        if not taken:
            continue
        ratios = [other / ours for other, ours in zip(taken, times_ms[OURS], strict=False)]
        cells = (name, len(taken), f"{statistics.median(taken):.1f}", f"{max(taken):.1f}")
        cells += (f"{statistics.median(ratios):.0f}", f"{worst[name]:.1e}")
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100, help="random networks that are built")
    parser.add_argument("--peer-networks", type=int, default=5, help="how many of them torch exports as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    rows = summarise(*measure(arguments.networks, arguments.peer_networks, arguments.seed))
    print("\n" + "  ".join(f"{column:>32}" if column == "exporter" else column for column in COLUMNS))
    for row in rows:
        print("  ".join(f"{row[c]!s:>{32 if c == 'exporter' else len(c)}}" for c in COLUMNS))
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()

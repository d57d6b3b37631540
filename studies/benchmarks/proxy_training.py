"""Images per second of a proxy's training step, against timm's own StarNet trained in the stock way.

    python studies/benchmarks/proxy_training.py [--steps 3] [--rounds 5] [--threads 2] [--out proxy_training.csv]

Stock: `timm.create_model`, NCHW, eager, the optimiser that `create_optimizer_v2` makes by default. Ours: what
`starsearch.training` does in each step. Same weights, batch, loss and learning rate; rounds of each by turns in one
process, since the machine's other work and its clock change from minute to minute; the ratio is the median of the
rounds' ratios. "of GEMM" is the share of the rate that `torch.mm` of 2048² matrices reaches, measured in each round; a
step is counted as 6 FLOPs a MAC (forward, and the two products of backward).
"""

import argparse
import csv
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from training_steps import make_our_step, make_stock_step

from starsearch.families.family import count_macs, presets

CASES = (("starnet_s1", 32, 128), ("starnet_s1", 64, 128), ("starnet_s4", 64, 64))
GATES = {32: 2.5, 64: 1.7}
TARGETS = {32: 4.0, 64: 2.5}
NUM_CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case: medians over the rounds."""

    network: str
    resolution: int
    batch: int
    stock_images_per_second: float
    ours_images_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float
    gate: float
    target: float
    stock_share_of_gemm: float
    ours_share_of_gemm: float
    gemm_gflops: float
    rounds: int
    steps: int
    threads: int
    torch: str


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    rows = [measure(*case, options) for case in CASES]
    print_table(rows)
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    return 0 if all(row.ratio >= row.gate for row in rows) else 1


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="training steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="CSV file for the figures")
    return parser.parse_args()


def measure(network, resolution, batch, options):
    torch.manual_seed(0)
    images, targets = torch.randn(batch, 3, resolution, resolution), torch.randint(0, NUM_CLASSES, (batch,))
    stock, ours = (
        make_stock_step(network, images, targets, num_classes=NUM_CLASSES),
        make_our_step(network, images, targets, num_classes=NUM_CLASSES),
    )
    for step in (stock, ours):  # allocations, oneDNN's primitives
        step()
        step()
    seconds = {stock: [], ours: []}
    gemm_flops = []
    for _ in range(options.rounds):
        gemm_flops.append(measure_gemm())
        for step, readings in seconds.items():
            began = time.perf_counter()
            for _ in range(options.steps):
                step()
            readings.append((time.perf_counter() - began) / options.steps)
    step_flops = 6 * batch * count_macs(presets()[network], resolution=resolution, num_classes=NUM_CLASSES)
    ratios = [slow / fast for slow, fast in zip(seconds[stock], seconds[ours], strict=True)]
    gemm = statistics.median(gemm_flops)
    stock_s, ours_s = statistics.median(seconds[stock]), statistics.median(seconds[ours])
    return Row(
        network=network,
        resolution=resolution,
        batch=batch,
        stock_images_per_second=batch / stock_s,
        ours_images_per_second=batch / ours_s,
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        gate=GATES[resolution],
        target=TARGETS[resolution],
        stock_share_of_gemm=step_flops / stock_s / gemm,
        ours_share_of_gemm=step_flops / ours_s / gemm,
        gemm_gflops=gemm / 1e9,
        rounds=options.rounds,
        steps=options.steps,
        threads=options.threads,
        torch=torch.__version__,
    )


def measure_gemm(size=2048):
    """FLOP/s of a large fp32 matrix product, the best of three."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def print_table(rows):
    print(f"{'network':<12}{'px':>4}{'batch':>7}{'stock/s':>9}{'ours/s':>9}{'ratio':>7}{'(range)':>13}", end="")
    print(f"{'gate':>6}{'target':>8}{'stock of GEMM':>15}{'ours of GEMM':>14}{'GEMM GFLOP/s':>14}")
    for row in rows:
        spread = f"({row.lowest_ratio:.2f}–{row.highest_ratio:.2f})"
        print(
            f"{row.network:<12}{row.resolution:>4}{row.batch:>7}{row.stock_images_per_second:>9.0f}"
            f"{row.ours_images_per_second:>9.0f}{row.ratio:>7.2f}{spread:>13}{row.gate:>6}{row.target:>8}"
            f"{row.stock_share_of_gemm:>15.0%}{row.ours_share_of_gemm:>14.0%}{row.gemm_gflops:>14.0f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())

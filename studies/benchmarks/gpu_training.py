"""Images per second of full training on one GPU, against timm's StarNet in the stock way; synthetic batches.

    python studies/benchmarks/gpu_training.py [--batch 256] [--steps 20] [--rounds 7] [--out gpu_training.csv]

Stock: `timm.create_model`, its optimiser and loss as timm's train.py has them without options (NCHW, float32 with TF32
products, eager). Ours: a training step of `starsearch train --precision bfloat16 --compile`. Same GPU, batch and
learning rate, 224 px, 1,000 classes; rounds of each by turns in one process, the ratio is the median of the rounds'.

"of bandwidth" is the share of what memory could serve at best: each convolution and the head read and write their maps
once forward and twice backward, in bfloat16, everything else fused into them, at the rate that a copy of 2 GB reaches.
"""

import argparse
import csv
import statistics
import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch
from training_steps import make_our_step, make_stock_step

from starsearch.families.family import lower, presets
from starsearch.training import Hardware

NETWORKS = ("starnet_s1", "starnet_s4")
RESOLUTION, NUM_CLASSES = 224, 1000
BYTES = 2  # of a bfloat16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network: medians over the rounds."""

    network: str
    batch: int
    stock_images_per_second: float
    ours_images_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float
    stock_share_of_bandwidth: float
    ours_share_of_bandwidth: float
    bandwidth_gb_per_s: float
    peak_memory_gb: float
    rounds: int
    steps: int
    device: str
    torch: str


def main():
    options = parse_options()
    if not torch.cuda.is_available():
        print("This machine has no CUDA device: the benchmark was not run.")
        return 1
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True  # as timm's train.py
    rows = [measure(network, options) for network in NETWORKS]
    for row in rows:
        spread = f"{row.lowest_ratio:.2f}–{row.highest_ratio:.2f}"
        print(f"{row.network} on {row.device}, batch {row.batch}, bandwidth {row.bandwidth_gb_per_s:,.0f} GB/s")
        print(f"  stock {row.stock_images_per_second:8,.0f} images/s, {row.stock_share_of_bandwidth:.0%} of bandwidth")
        print(f"  ours  {row.ours_images_per_second:8,.0f} images/s, {row.ours_share_of_bandwidth:.0%} of bandwidth")
        print(f"  ratio {row.ratio:.2f} ({spread})")
    if options.out:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    return 0


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="training steps a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="CSV file for the figures")
    return parser.parse_args()


def measure(network, options, device="cuda"):
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, RESOLUTION, RESOLUTION, device=device)
    targets = torch.randint(0, NUM_CLASSES, (options.batch,), device=device)
    stock = make_stock_step(network, images, targets, num_classes=NUM_CLASSES)
    hardware = Hardware(device=device, precision="bfloat16", compile=True)
    ours = make_our_step(network, images, targets, num_classes=NUM_CLASSES, hardware=hardware)
    for step in (stock, ours):  # compiling, cuDNN's choice of kernels, allocations
        timed(step, 5)
    torch.cuda.reset_peak_memory_stats()
    seconds = {stock: [], ours: []}
    for _ in range(options.rounds):
        for step, readings in seconds.items():
            readings.append(timed(step, options.steps))
    bandwidth = measure_bandwidth(device)
    stock_s, ours_s = statistics.median(seconds[stock]), statistics.median(seconds[ours])
    ratios = [slow / fast for slow, fast in zip(seconds[stock], seconds[ours], strict=True)]
    moved = options.batch * bytes_of_image(network)
    return Row(
        network=network,
        batch=options.batch,
        stock_images_per_second=options.batch / stock_s,
        ours_images_per_second=options.batch / ours_s,
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        stock_share_of_bandwidth=moved / stock_s / bandwidth,
        ours_share_of_bandwidth=moved / ours_s / bandwidth,
        bandwidth_gb_per_s=bandwidth / 1e9,
        peak_memory_gb=torch.cuda.max_memory_allocated() / 1e9,
        rounds=options.rounds,
        steps=options.steps,
        device=torch.cuda.get_device_name(),
        torch=torch.__version__,
    )


def timed(step, count):
    """Seconds a step; the GPU has finished before and after."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def bytes_of_image(network):
    """What a step moves at least for an image: three times the inputs and outputs of what has weights."""
    layers = lower(presets()[network], resolution=RESOLUTION, num_classes=NUM_CLASSES)
    weighted = [layer for layer in layers if layer.op in ("conv", "linear")]
    return 3 * BYTES * sum(prod(layer.in_shape) + prod(layer.out_shape) for layer in weighted)


def measure_bandwidth(device, size=1 << 30):
    """Bytes a second of a large copy, read and written, the best of five."""
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / min(timed(lambda: target.copy_(source), 1) for _ in range(5))


if __name__ == "__main__":
    raise SystemExit(main())

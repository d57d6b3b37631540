"""Images per second of a proxy's training step, against timm's own StarNet trained in the stock way.

    python studies/benchmarks/proxy_training.py [--steps 3] [--rounds 5] [--threads 2] [--out proxy_training.csv]

Stock: `timm.create_model`, NCHW, eager, the optimiser that `create_optimizer_v2` makes by default. Ours: what
`starsearch.training` does in each step. Same weights, batch, loss and learning rate; rounds of each by turns in one
process; the ratio is the median of the rounds' ratios. "of GEMM" is the share of the rate that `torch.mm` of 2048²
matrices reaches, measured in each round; a step is 6 FLOPs a MAC (forward, and the two products of backward).
"""

from __future__ import annotations

from functools import partial

import timm
import torch
from harness import by_turns, collected, read_options, seconds, show
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2

from starsearch.families.family import count_macs, presets
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.training.optimisation import Optimisation

CASES = (("starnet_s1", 32, 128), ("starnet_s1", 64, 128), ("starnet_s4", 64, 64))
GATES = {32: 2.5, 64: 1.7}
NUM_CLASSES = 10


def make_stock_step(network, images, targets):
    """timm's network, optimiser and loss as its train.py has them without options: NCHW, eager."""
    recipe = Recipe()
    model = timm.create_model(network, num_classes=NUM_CLASSES)
    optimizer = create_optimizer_v2(model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss = LabelSmoothingCrossEntropy(recipe.smoothing)

    def step():
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        optimizer.step()

    return step


def make_our_step(network, images, targets):
    """What `starsearch.training` does in each step."""
    model = build_model(presets()[network], num_classes=NUM_CLASSES, initialization="timm")
    model = model.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)  # as our batches come
    optimisation = Optimisation(model, Recipe(epochs=1000), steps_per_epoch=1000)
    return lambda: optimisation.step(images, targets)


def measure(network, resolution, batch, options):
    torch.manual_seed(0)
    images, targets = torch.randn(batch, 3, resolution, resolution), torch.randint(0, NUM_CLASSES, (batch,))
    makers = {"stock": make_stock_step, "ours": make_our_step}
    steps = {name: make(network, images, targets) for name, make in makers.items()}
    for step in steps.values():  # allocations, oneDNN's primitives
        step()
        step()

    def rate(step, _):
        return options.steps * batch / seconds(lambda: [step() for _ in range(options.steps)])

    ways = {"gemm": lambda _: gemm_flops()} | {name: partial(rate, step) for name, step in steps.items()}
    by_round = by_turns(options.rounds, ways).pivot_table(index="round", columns="way", values="value")
    rates, ratios = by_round.median(), by_round["ours"] / by_round["stock"]
    flops = 6 * count_macs(presets()[network], resolution=resolution, num_classes=NUM_CLASSES)
    return {
        "network": network,
        "resolution": resolution,
        "batch": batch,
        "stock_images_per_second": rates["stock"],
        "ours_images_per_second": rates["ours"],
        "ratio": ratios.median(),
        "lowest_ratio": ratios.min(),
        "highest_ratio": ratios.max(),
        "gate": GATES[resolution],
        "stock_share_of_gemm": flops * rates["stock"] / rates["gemm"],
        "ours_share_of_gemm": flops * rates["ours"] / rates["gemm"],
        "gemm_gflops": rates["gemm"] / 1e9,
        "threads": options.threads,
    }


def gemm_flops(size=2048):
    """FLOP/s of a large fp32 matrix product, the best of three."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(seconds(torch.mm, left, right) for _ in range(3))


if __name__ == "__main__":
    options = read_options(__doc__, steps=3, rounds=5, threads=torch.get_num_threads())
    torch.set_num_threads(options.threads)
    rows = collected((measure(*case, options) for case in CASES), options.out)
    show(rows, index=False)
    raise SystemExit(0 if (rows["ratio"] >= rows["gate"]).all() else 1)

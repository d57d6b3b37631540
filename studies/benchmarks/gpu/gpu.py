"""Trainings on one GPU: our step, bare and end to end, against timm's, and several candidates at once.

    python studies/benchmarks/gpu/gpu.py [--out gpu.csv] [--rounds 3]     # one GPU, at most eight minutes
    python studies/benchmarks/gpu/gpu.py --cpu              # a rehearsal in small, whose figures mean nothing

Stock: `timm.create_model`, NCHW, eager, timm's optimiser by default, on a synthetic batch that is there already. Ours
bare: the step of `starsearch.training` on such a batch, in the form and precision that proxies take. End to end:
`starsearch.training.train` on random pixels in memory with padded crops, flips and erasing, from its first step to its
last, validation not counted. Candidates at once: processes that train the same network, each with its own data, for the
same seconds. The exit code is 1 where a gate is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import machine, show, write

from starsearch.data.dataset import DataSet, Split
from starsearch.families.family import presets
from starsearch.families.network import build_model
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import Hardware, train
from starsearch.training.optimisation import Optimisation

NUM_CLASSES = 10
WARM_UP = 6  # steps; the fourth is captured
SECONDS = 4.0  # that candidates train at once


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="rehearse in small on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a CSV file")
    parser.add_argument("--candidate", help=argparse.SUPPRESS)  # a process of `at_once`
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --cpu rehearses without one.")
    options.device = "cpu" if options.cpu else "cuda"
    options.hardware = Hardware(device=options.device, precision="float32" if options.cpu else "bfloat16", capture=True)
    return options


def wait(options):
    if not options.cpu:
        torch.cuda.synchronize()


def rate(step, batch, options, at_least=1.0):
    """Images per second of a step that is warm, over at least so many seconds."""
    wait(options)
    began, count = time.perf_counter(), 0
    while count < 2 or time.perf_counter() - began < (0 if options.cpu else at_least):
        for _ in range(5 if not options.cpu else 1):
            step()
            count += 1
        wait(options)
    return count * batch / (time.perf_counter() - began)


def synthetic(batch, resolution, options):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, resolution, resolution, generator=generator).to(options.device)
    return images, torch.randint(0, NUM_CLASSES, (batch,), generator=generator).to(options.device)


def stock_step(network, batch, resolution, options, *, best=False):
    """timm's network trained as its train.py does without options; `best`: as it does with its fastest ones."""
    images, targets = synthetic(batch, resolution, options)
    recipe = Recipe()
    model = timm.create_model(network, num_classes=NUM_CLASSES).to(options.device)
    if best:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss = LabelSmoothingCrossEntropy(recipe.smoothing)
    forward = torch.compile(model) if best and not options.cpu else model

    def step():
        optimizer.zero_grad()
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=best):
            logits = forward(images)
        loss(logits.float(), targets).backward()
        optimizer.step()

    return step


def our_step(network, batch, resolution, options, *, compiled=False):
    images, targets = synthetic(batch, resolution, options)
    images = images.contiguous(memory_format=torch.channels_last)
    model = build_model(presets()[network], num_classes=NUM_CLASSES).to(options.device)
    model = model.to(memory_format=torch.channels_last)
    recipe = Recipe(epochs=1000, batch_size=batch)
    optimisation = Optimisation(model, recipe, steps_per_epoch=1000, hardware=options.hardware)
    if compiled and not options.cpu:  # as trainings are that are long enough for it
        optimisation.compile()
    return lambda: optimisation.step(images, targets)


def by_rounds(steps, batch, options):
    """The medians over the rounds of the rates of steps, by turns."""
    for step in steps.values():
        for _ in range(1 if options.cpu else WARM_UP):
            step()
    rounds = [{name: rate(step, batch, options) for name, step in steps.items()} for _ in range(options.rounds)]
    return pd.DataFrame(rounds).median()


def random_data(count, resolution):
    """A data set of random pixels, decoded already."""
    rng = np.random.default_rng(0)
    splits = []
    for name, number in (("train", count), ("validation", max(64, count // 20))):
        pixels = rng.integers(0, 256, (number, resolution, resolution, 3), dtype=np.uint8)
        splits.append(
            Split(
                name=name,
                classes=tuple(map(str, range(NUM_CLASSES))),
                targets=np.arange(number) % NUM_CLASSES,
                names=[str(index) for index in range(number)],
                content=pixels.__getitem__,
                in_memory=True,
                pixels=lambda pixels=pixels: pixels,
            )
        )
    return DataSet(name="random", train=splits[0], validation=splits[1], fingerprint=f"{count} {resolution}")


def training(network, data, batch, resolution, epochs, options):
    recipe = Recipe(batch_size=batch, random_erasing=0.25, epochs=epochs)
    fidelity = Fidelity(resolution=resolution)
    return train(presets()[network], data=data, recipe=recipe, fidelity=fidelity, seed=0, hardware=options.hardware)


def against_stock(network, batch, resolution, options):
    steps = {
        name: make(network, batch, resolution, options)
        for name, make in {"stock": stock_step, "bare": our_step}.items()
    }
    rates = by_rounds(steps, batch, options)
    del steps
    count, epochs = (4 * batch, 1) if options.cpu else (100 * batch, max(2, int(6 * rates["bare"] / (100 * batch))))
    found = follow(training(network, random_data(count, resolution), batch, resolution, epochs, options))
    what = f"{network}, {resolution} px, batch {batch}"
    yield f"{what}: end to end, images/s, by stock's", found.images_per_second, rates["stock"], 2.5, 5.0
    yield f"{what}: end to end, images/s, by our bare step's", found.images_per_second, rates["bare"], 0.85, 0.95


def at_224(network, batch, resolution, options):
    torch.set_float32_matmul_precision("high")  # TF32
    steps = {
        "stock": stock_step(network, batch, resolution, options),
        "ours": our_step(network, batch, resolution, options),
    }
    steps["ours compiled"] = our_step(network, batch, resolution, options, compiled=True)
    steps["best"] = stock_step(network, batch, resolution, options, best=True)
    rates = by_rounds(steps, batch, options)
    torch.set_float32_matmul_precision("highest")
    what = f"{network}, {resolution} px, batch {batch}: bare, images/s, by timm's"
    yield f"{what} eager in TF32", rates["ours"], rates["stock"], 2.0, 3.0
    yield f"{what} compiled, bfloat16, channels-last", rates["ours compiled"], rates["best"], 1.0, 1.2
    yield f"{what} eager in TF32, ours compiled", rates["ours compiled"], rates["stock"], None, None


def second_candidate(networks, batch, resolution, options):
    """Seconds from the call that trains a second network of the same study to the end of its first step."""
    data, took, step = random_data(8 * batch, resolution), [], Optimisation.step

    def noting(self, *arguments):
        loss = step(self, *arguments)
        wait(options)
        took.append(time.perf_counter() - began)
        return loss

    Optimisation.step = noting
    for network in networks:
        took.clear()
        began = time.perf_counter()
        follow(training(network, data, batch, resolution, 1, options))
    Optimisation.step = step
    yield f"{networks[1]} after {networks[0]}: seconds to its first step, allowed by taken", 2.0, took[0], 1.0, 2.0


def candidate(options):
    """A process that trains for some seconds whenever it is told to, and says how many images a second it trained."""
    network, batch, resolution = options.candidate.split(",")
    batch, resolution = int(batch), int(resolution)
    step = our_step(network, batch, resolution, options)
    for _ in range(1 if options.cpu else WARM_UP):
        step()
    wait(options)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(rate(step, batch, options, SECONDS), flush=True)


def at_once(network, batch, resolution, numbers, options):
    command = [
        sys.executable,
        __file__,
        "--candidate",
        f"{network},{batch},{resolution}",
        *(["--cpu"] if options.cpu else []),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(max(numbers))]
    try:
        for process in processes:
            assert process.stdout.readline().strip() == "ready", "a candidate has failed; its error is above"
        rates = {}
        for number in numbers:
            for process in processes[:number]:
                process.stdin.write("go\n")
                process.stdin.flush()
            rates[number] = sum(float(process.stdout.readline()) for process in processes[:number])
    finally:
        for process in processes:
            process.stdin.close()
            process.wait(timeout=60)
    best = max(numbers[1:], key=rates.get)
    what = f"{network}, {resolution} px, batch {batch}: images/s of "
    for number in numbers[1:]:
        gate = 1.3 if number == best else None  # the best number of candidates has to reach it
        yield f"{what}{number} at once, by one's", rates[number], rates[1], gate, 2.0


def measured(options):
    if options.cpu:
        yield from against_stock("starnet_s050", 8, 32, options)
        yield from at_224("starnet_s050", 2, 64, options)
        yield from second_candidate(("starnet_s050", "starnet_s100"), 8, 32, options)
        yield from at_once("starnet_s050", 8, 32, (1, 2), options)
        return
    for network in ("starnet_s1", "starnet_s4"):
        for resolution in (32, 64):
            yield from against_stock(network, 1024, resolution, options)
    yield from second_candidate(("starnet_s1", "starnet_s2"), 1024, 32, options)
    for network in ("starnet_s050", "starnet_s1"):
        yield from at_once(network, 128, 32, (1, 2, 4, 8), options)
    for network in ("starnet_s1", "starnet_s4"):
        yield from at_224(network, 256, 224, options)


def main():
    options = read_options()
    if options.candidate:
        candidate(options)
        return 0
    device = "CPU, a rehearsal" if options.cpu else torch.cuda.get_device_name()
    print(f"{machine()}\n{device}")
    rows, began = pd.DataFrame(), time.perf_counter()
    for what, ours, theirs, gate, target in measured(options):
        ratio = ours / theirs
        row = {"measured": what, "ours": ours, "other": theirs, "ratio": ratio, "gate": gate, "target": target}
        rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
        print(f"{time.perf_counter() - began:5.0f} s  {what}: {ours:.4g} / {theirs:.4g} = {ratio:.2f}", flush=True)
        write(rows, options.out)
    show(rows, index=False)
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if options.cpu else torch.cuda.max_memory_reserved()
    )
    print(f"\npeak memory {peak / 1e9:.2f} GB, {time.perf_counter() - began:.0f} s")
    return 0 if options.cpu else int((rows["ratio"] < rows["gate"].astype(float)).any())


if __name__ == "__main__":
    raise SystemExit(main())

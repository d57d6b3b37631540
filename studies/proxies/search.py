"""Search for the cheapest short training that ranks networks as ImageNet does, also networks of one size.

    python studies/proxies/search.py train --data cifar10/ --settings proxy,stride-1 --seeds 5
    python studies/proxies/search.py train --data digits --settings digits,digits-official --networks seven
    python studies/proxies/search.py report

A setting is a row of SETTINGS: what it changes of a shipped recipe and of its fidelity. Each training is one of the
product's own loop. `seven` are S050 to S4, which parameter count orders as well; `equal-size` are S4 with other
operations a stage (table 7 of the paper, "**++" is star, star, sum, sum) and with the activation elsewhere (table 9),
which it cannot order. A row is appended as each training ends, so that the same command goes on where it was stopped;
--minutes stops it on time. `report` prints for each setting Kendall's τ with the published order over the seeds, the
spread between seeds beside the spread between networks, and what a training costs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import kendalltau, t

from starsearch.accuracy.evidence import published_top1_percent
from starsearch.data import open_data
from starsearch.families.family import presets
from starsearch.progress import follow, ignore
from starsearch.recipe import Fidelity
from starsearch.study.recipe_file import load_recipe
from starsearch.study.study_file import load_study
from starsearch.training import train

TRAININGS = Path(__file__).with_name("trainings.csv")
# Of equal size: S4 with star or sum in its four stages (table 7), and with the activation elsewhere (table 9).
NETWORKS = {
    "seven": tuple(name for name, one in presets().items() if one.family == "starnet"),
    "equal-size": ("starnet_s4", "++++", "*+++", "**++", "***+", "++*+", "+++*", "++**", "none", "both", "post"),
}
CIFAR = Fidelity(resolution=32, epochs=3, samples=10_000, validation_samples=5_000, recipe="proxy")
# By name: the fidelity's changes, the recipe's changes. "depth" in place of a rate divides it by √(blocks / 8).
SETTINGS = {
    "proxy": ({}, {}),
    "official": ({}, {"initialization": "official"}),
    "lr-1e-3": ({}, {"lr": 1e-3}),
    "lr-4e-3": ({}, {"lr": 4e-3}),
    "lr-depth": ({}, {"lr": "depth"}),
    "batch-64": ({}, {"batch_size": 64}),
    "batch-256": ({}, {"batch_size": 256}),
    "ema": ({}, {"ema_decay": 0.99}),
    "epochs-6": ({"epochs": 6}, {}),
    "samples-5000-epochs-6": ({"epochs": 6, "samples": 5_000}, {}),
    "samples-20000-epochs-3": ({"samples": 20_000}, {}),
    "stride-1": ({"stem_stride": 1}, {}),
    "stride-1-samples-5000": ({"stem_stride": 1, "samples": 5_000}, {}),
    "stride-1-samples-5000-epochs-6": ({"stem_stride": 1, "samples": 5_000, "epochs": 6}, {}),
    "64px-samples-5000": ({"resolution": 64, "samples": 5_000}, {}),
    "digits": (None, {}),
    "digits-official": (None, {"initialization": "official"}),
    "digits-lr-1e-3": (None, {"lr": 1e-3}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--data")
    parser.add_argument("--settings", default="proxy")
    parser.add_argument("--networks", default="seven,equal-size")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "train":
        torch.set_num_threads(options.threads)
        train_all(options, until=time.monotonic() + 60 * options.minutes)
    report(pd.read_csv(TRAININGS))


def train_all(options: argparse.Namespace, until: float) -> None:
    """Train what is not in the table yet, seed by seed, so that what is there can be compared at any time."""
    data = open_data(options.data)
    table = pd.read_csv(TRAININGS)
    done = set(zip(table["setting"], table["network"], table["seed"], strict=True))
    names = list(dict.fromkeys(name for group in options.networks.split(",") for name in NETWORKS[group]))
    jobs = [(s, n, seed) for seed in range(options.seeds) for s in options.settings.split(",") for n in names]
    for setting, name, seed in jobs:
        if (setting, name, seed) in done:
            continue
        if time.monotonic() > until:
            return
        began = time.process_time()
        top1 = round(train_one(setting, name, seed, data), 2)
        row = pd.DataFrame([[setting, name, seed, top1, round(time.process_time() - began, 1)]])
        row.to_csv(TRAININGS, mode="a", header=False, index=False)
        print(f"{setting}, {name}, seed {seed}: {top1:.2f} %", flush=True)


def train_one(setting, name, seed, data):
    """Return top-1 in percent."""
    of_fidelity, of_recipe = SETTINGS[setting]
    fidelity = load_study("starnet").fidelity if of_fidelity is None else replace(CIFAR, **of_fidelity)
    architecture, recipe = architecture_of(name), load_recipe(fidelity.recipe)
    if of_recipe.get("lr") == "depth":
        of_recipe = {"lr": recipe.lr / (sum(architecture.depths) / 8) ** 0.5}
    steps = train(architecture, data=data, recipe=replace(recipe, **of_recipe), fidelity=fidelity, seed=seed)
    return follow(steps, ignore).top1_percent


def architecture_of(name):
    """Return the anchor of that name, or S4 with these operations a stage, or with the activation there."""
    if name in presets():
        return presets()[name]
    if name in ("none", "both", "post"):
        return replace(presets()["starnet_s4"], activation=(name,) * 4)
    return replace(presets()["starnet_s4"], ops=tuple("star" if letter == "*" else "sum" for letter in name))


def report(table: pd.DataFrame) -> None:
    """Print τ and spreads of each setting, for either group of networks, over the seeds that have all of them."""
    lines = []
    for setting, trained in table.groupby("setting", sort=False):
        top1_percent = trained.pivot_table(index="seed", columns="network", values="top1_percent")
        for group, members in NETWORKS.items():
            names = [name for name in members if name in top1_percent]
            found = top1_percent[names].dropna()
            if len(names) < 4 or found.empty:
                continue
            order = [published_top1_percent()[architecture_of(name).canonical()] for name in names]
            taus = pd.Series([kendalltau(values, order).statistic for values in found.to_numpy()])
            half = t.ppf(0.975, len(taus) - 1) * taus.sem() if len(taus) > 1 else float("nan")
            lines.append(
                {
                    "setting": setting,
                    "networks": f"{len(names)} {group}",
                    "seeds": len(taus),
                    "tau": taus.mean(),
                    "sd": taus.std(),
                    "low": max(-1, taus.mean() - half),
                    "high": min(1, taus.mean() + half),
                    "tau of means": kendalltau(found.mean(), order).statistic,
                    "sd between seeds": found.std().mean(),
                    "between networks": found.mean().std(),
                    "core s": trained[trained["network"].isin(names)]["seconds"].mean(),
                }
            )
    print(pd.DataFrame(lines).round(2).to_string(index=False))


if __name__ == "__main__":
    main()

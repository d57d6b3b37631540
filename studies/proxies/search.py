"""Search for the cheapest short training that ranks networks as ImageNet does, also networks of one size.

    python studies/proxies/search.py train --data cifar10/ --settings proxy,stride-1 --seeds 5
    python studies/proxies/search.py train --data digits --settings digits,digits-official --networks seven
    python studies/proxies/search.py report

A setting is a row of SETTINGS: what it changes of a shipped recipe and of its fidelity. Each training is one of the
product's own loop. `seven` are S050 to S4, which parameter count orders as well; `equal-size` are S4 with other
operations a stage (`table-7` of the paper, "**++" is star, star, sum, sum) or the activation elsewhere (`table-9`),
which it cannot order; `contrasts` are five of those, to look at a setting first. A row is appended as each training
ends, so that the same command goes on where it was stopped; --minutes stops it on time. `report` prints for each
setting Kendall's τ with the published order and its 95 % interval over the seeds, the spread between seeds beside the
spread between networks, and what a training costs. The trainings of `starsearch reproduce` are by the setting `proxy`,
and count.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from scipy.stats import kendalltau

from starsearch.accuracy.evidence import published_top1_percent
from starsearch.bench.table import read_table
from starsearch.data import open_data
from starsearch.families.family import presets
from starsearch.families.text import format_architecture
from starsearch.paper.finding import interval_of_mean
from starsearch.progress import follow
from starsearch.recipe import Fidelity
from starsearch.study.recipe_file import load_recipe
from starsearch.study.study_file import load_study
from starsearch.training import train

TRAININGS = Path(__file__).with_name("trainings.csv")
REPRODUCED = Path(__file__).parents[1] / "paper" / "trainings"  # whose fidelity starnet-small is the setting proxy
TABLE_7 = ("starnet_s4", "++++", "*+++", "**++", "***+", "++*+", "+++*", "++**")
TABLE_9 = ("starnet_s4", "none", "both", "post")
NETWORKS = {
    "seven": tuple(name for name, one in presets().items() if one.family == "starnet"),
    "table-7": TABLE_7,
    "table-9": TABLE_9,
    "equal-size": (*TABLE_7, *TABLE_9[1:]),
    "contrasts": ("starnet_s4", "++**", "**++", "++++", "none"),  # published: 78.4, 78.4, 75.2, 75.3, 75.6
}
CIFAR = Fidelity(resolution=32, epochs=3, samples=10_000, validation_samples=5_000, recipe="proxy")
# By name: the fidelity's changes ("first": so many epochs at that resolution), the recipe's changes ("depth" in place
# of a rate divides it by √(blocks / 8)).
SETTINGS = {
    "proxy": ({}, {}),
    "official": ({}, {"initialization": "official"}),
    "lr-5e-4": ({}, {"lr": 5e-4}),
    "lr-1e-3": ({}, {"lr": 1e-3}),
    "lr-4e-3": ({}, {"lr": 4e-3}),
    "lr-depth": ({}, {"lr": "depth"}),
    "warmup-quarter": ({}, {"warmup_epochs": 0.25}),
    "official-lr-1e-3": ({}, {"initialization": "official", "lr": 1e-3}),
    "official-lr-depth": ({}, {"initialization": "official", "lr": "depth"}),
    "batch-32": ({}, {"batch_size": 32}),
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
    "progressive-64px": ({"first": (2, 32), "resolution": 64}, {}),
    "progressive-stride-1": ({"first": (2, 16), "stem_stride": 1}, {}),
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
    parser.add_argument("--table", type=Path, default=TRAININGS)
    options = parser.parse_args()
    if options.what == "train":
        torch.set_num_threads(options.threads)
        train_all(options, until=time.monotonic() + 60 * options.minutes)
    report(read_trainings(options.table))


def read_trainings(path: Path) -> pd.DataFrame:
    """Return what was trained here, and of the networks of equal size what the reproduced tables have.

    These come first: S4 stands in both tables, and differs by hundredths from one processor to another.
    """
    rows = read_table(REPRODUCED)
    names = {format_architecture(architecture_of(name)): name for name in NETWORKS["equal-size"]}
    rows = rows.assign(network=rows["network"].map(names), setting="proxy", seconds=rows["cpu_seconds"])
    rows = rows[(rows["fidelity"] == "starnet-small") & rows["network"].notna()]
    table = pd.read_csv(path)
    rows = pd.concat([table, rows[list(table)]], ignore_index=True)
    return rows.drop_duplicates(["setting", "network", "seed"], keep="last")


def train_all(options: argparse.Namespace, until: float) -> None:
    """Train what is not in the table yet, seed by seed, so that what is there can be compared at any time."""
    data = open_data(options.data)
    table = read_trainings(options.table)
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
        row.to_csv(options.table, mode="a", header=False, index=False)
        print(f"{setting}, {name}, seed {seed}: {top1:.2f} %", flush=True)


def train_one(setting, name, seed, data):
    """Return top-1 in percent."""
    of_fidelity, of_recipe = SETTINGS[setting]
    of_fidelity = dict(of_fidelity or {})
    until, resolution = of_fidelity.pop("first", (0, None))
    fidelity = load_study("starnet").fidelity if setting.startswith("digits") else replace(CIFAR, **of_fidelity)
    architecture, recipe = architecture_of(name), load_recipe(fidelity.recipe)
    if of_recipe.get("lr") == "depth":
        of_recipe = {**of_recipe, "lr": recipe.lr / (sum(architecture.depths) / 8) ** 0.5}
    with TemporaryDirectory() as folder:
        common = {"data": data, "recipe": replace(recipe, **of_recipe), "seed": seed}
        if until:
            common["checkpoint"] = Path(folder, "first.pt")
            follow(train(architecture, fidelity=replace(fidelity, resolution=resolution), until=until, **common))
        return follow(train(architecture, fidelity=fidelity, **common)).top1_percent


def architecture_of(name):
    """Return the anchor of that name, or S4 with these operations a stage, or with the activation there."""
    if name in presets():
        return presets()[name]
    if name in TABLE_9:
        return replace(presets()["starnet_s4"], activation=(name,) * 4)
    return replace(presets()["starnet_s4"], ops=tuple("star" if letter == "*" else "sum" for letter in name))


def report(table: pd.DataFrame) -> None:
    """Print τ and spreads of each setting, for each group of networks, over the seeds that have all of them.

    "own" is the spread between seeds without what a seed does to all networks alike, which no order depends on.
    """
    lines = []
    for setting, trained in table.groupby("setting", sort=False):
        top1_percent = trained.pivot_table(index="seed", columns="network", values="top1_percent")
        for group, members in NETWORKS.items():
            names = [name for name in members if name in top1_percent]
            found = top1_percent[names].dropna()
            if 2 * len(names) <= len(members) or found.empty:
                continue
            order = [published_top1_percent()[architecture_of(name).canonical()] for name in names]
            taus = [kendalltau(values, order).statistic for values in found.to_numpy()]
            mean, low, high = interval_of_mean(taus)
            lines.append(
                {
                    "setting": setting,
                    "networks": f"{len(names)} {group}",
                    "seeds": len(taus),
                    "tau": mean,
                    "low": max(-1, low),
                    "high": min(1, high),
                    "tau of means": kendalltau(found.mean(), order).statistic,
                    "between networks": found.mean().std(),
                    "between seeds": found.std().mean(),
                    "own": found.sub(found.mean(axis=1), axis=0).std().mean(),
                    "core s": trained[trained["network"].isin(names)]["seconds"].mean(skipna=False),
                }
            )
    print(pd.DataFrame(lines).round(2).to_string(index=False))


if __name__ == "__main__":
    main()

"""How well short trainings rank the published StarNets: blocks that start as the identity against as published.

    python studies/proxies/ranking.py --data cifar10/ --out studies/proxies/cifar10.csv [--seeds 3] [--threads 1]
    python studies/proxies/ranking.py --data digits --out studies/proxies/digits.csv
    python studies/proxies/ranking.py --data cifar10/ --networks table7 --out studies/proxies/cifar10-table7.csv

Trains each network with the product's own loop by the shipped recipe (proxy, or digits on the embedded digits), from
either start and several seeds, in turns. `table7` are networks of one size, S4 with star or sum in each stage as in the
paper's table 7 ("**++" is star, star, sum, sum): what counting parameters cannot rank. They start as the identity.
A row is appended after each training, so that the same command goes on where it was stopped. Prints top-1 by network
and Kendall's τ with the published ImageNet order for each start and seed, and the spread between seeds beside the
spread between networks.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import kendalltau

from starsearch.data import open_data
from starsearch.families.family import presets
from starsearch.progress import follow, ignore
from starsearch.recipe import Fidelity
from starsearch.report.agreement import PUBLISHED_TOP1_PERCENT
from starsearch.study.recipe_file import load_recipe
from starsearch.study.study_file import DIGITS_FIDELITY
from starsearch.training import train

TABLE7_TOP1_PERCENT = {
    "****": 78.4,
    "++++": 75.3,
    "*+++": 75.1,
    "**++": 75.2,
    "***+": 76.8,
    "++*+": 76.4,
    "+++*": 76.9,
    "++**": 78.4,
}
CIFAR_FIDELITY = Fidelity(resolution=32, epochs=3, samples=10_000, validation_samples=5_000, recipe="proxy")


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    data = open_data(options.data)
    digits = options.data == "digits"
    fidelity = DIGITS_FIDELITY if digits else CIFAR_FIDELITY
    if options.networks == "table7":
        published, starts = TABLE7_TOP1_PERCENT, ("identity",)
    else:
        left_out = ("starnet_s050", "starnet_s100", "starnet_s150") if digits else ()
        published = {name: top1 for name, top1 in PUBLISHED_TOP1_PERCENT.items() if name not in left_out}
        starts = ("official", "identity")
    rows = pd.read_csv(options.out).to_dict("records") if options.out.exists() else []
    done = {(row["network"], row["start"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        for name in published:
            for start in starts:
                if (name, start, seed) in done:
                    continue
                recipe = replace(load_recipe(fidelity.recipe), initialization=start)
                steps = train(architecture_of(name), data=data, recipe=recipe, fidelity=fidelity, seed=seed)
                top1 = round(follow(steps, ignore).top1_percent, 2)
                rows.append({"network": name, "start": start, "seed": seed, "top1_percent": top1})
                pd.DataFrame(rows).to_csv(options.out, index=False)
                print(f"seed {seed} {name} {start}: {top1:.2f} %", flush=True)
    report(pd.DataFrame(rows), published)


def architecture_of(name):
    """Return the anchor of that name, or S4 with these operations a stage."""
    ops = tuple("star" if letter == "*" else "sum" for letter in name)
    return presets()[name] if name in presets() else replace(presets()["starnet_s4"], ops=ops)


def report(rows, published):
    """Print a table of top-1 and τ, and the two spreads."""
    names, published = list(published), list(published.values())
    table = rows.pivot_table(index=["start", "seed"], columns="network", values="top1_percent")[names]
    table["tau"] = [kendalltau(values, published).statistic for values in table.to_numpy()]
    print(table.round(2).to_string())
    for start, group in table.groupby(level="start"):
        between_seeds = group[names].std(ddof=1).mean()
        between_networks = group[names].mean().std(ddof=1)
        mean_tau = kendalltau(group[names].mean(), published).statistic
        print(
            f"{start}: τ {group['tau'].mean():.2f} ± {group['tau'].std(ddof=1):.2f} over seeds, {mean_tau:.2f} of the "
            f"means; standard deviation {between_seeds:.2f} between seeds, {between_networks:.2f} between networks"
        )


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", choices=("published", "table7"), default="published")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()

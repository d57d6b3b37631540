"""The best recipe against the base recipe over several seeds, at the fidelity they were searched at.

    python studies/benchmarks/recipe_seeds.py --study studies/tune-starnet_s1 --data cifar10/ [--seeds 3]

A search picks the best of many single trainings, whose top-1 is high by luck too; trained again from other seeds (of
weights, order of images, augmentation and subsets) it tells how much of the gain is the recipe's. Prints the mean and
standard deviation of each, and the 95 % t-interval of the mean difference, paired by seed.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from harness import collected, read_options, show
from scipy import stats

from starsearch.api.study_folder import place_of
from starsearch.api.tuning import BEST_RECIPE
from starsearch.data import open_data
from starsearch.families.text import parse_architecture
from starsearch.progress import follow
from starsearch.records.table import load_study
from starsearch.study.recipe_file import load_recipe
from starsearch.training import train
from starsearch.tuning.space import BASE_RECIPE


def trainings(options):
    """A row a training."""
    place = place_of(options.study)
    found = load_study(place.url, place.name)
    base = found.trials[found.trials["anchor"] == BASE_RECIPE].iloc[0]
    architecture, fidelity = parse_architecture(base["architecture_text"]), found.spec.fidelity
    recipes = {"base": load_recipe(options.recipe or fidelity.recipe)}
    recipes["best"] = load_recipe(str(Path(options.study) / BEST_RECIPE))
    data, device = open_data(options.data), "cuda" if torch.cuda.is_available() else "cpu"
    for seed in range(options.seeds):
        for name, recipe in recipes.items():
            training = train(architecture, data=data, recipe=recipe, fidelity=fidelity, seed=seed, device=device)
            result = follow(training)
            row = {"recipe": name, "seed": seed, "top1_percent": result.top1_percent}
            yield row | {"epochs": result.epochs, "seconds": round(result.seconds, 1)}


if __name__ == "__main__":
    options = read_options(__doc__, study="", data="digits", recipe="", seeds=3, threads=1)
    torch.set_num_threads(options.threads)
    rows = collected(trainings(options), options.out)
    show(rows.groupby("recipe")["top1_percent"].agg(["mean", "std", "count"]))
    by_seed = rows.pivot_table(index="seed", columns="recipe", values="top1_percent")
    difference = by_seed["best"] - by_seed["base"]
    low, high = stats.ttest_1samp(difference, 0.0).confidence_interval() if len(difference) > 1 else (math.nan,) * 2
    print(
        f"difference: {difference.mean():+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}, {len(difference)} seeds"
    )

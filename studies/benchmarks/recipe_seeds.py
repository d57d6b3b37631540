"""The best recipe against the base recipe over several seeds, at the fidelity they were searched at.

    python studies/benchmarks/recipe_seeds.py studies/tune-starnet_s1 --data cifar10/ [--seeds 3] [--out FILE.csv]

A search picks the best of many single trainings, whose top-1 is high by luck too; trained again from other seeds (of
weights, order of images, augmentation and subsets) it tells how much of the gain is the recipe's. Prints the mean and
standard deviation of each, and the 95 % t-interval of the mean difference, paired by seed.
"""

import argparse
import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy import stats

from starsearch.api.study_folder import place_of
from starsearch.api.tuning import BEST_RECIPE
from starsearch.data import open_data
from starsearch.families.text import parse_architecture
from starsearch.records import load_study
from starsearch.study.recipe_file import load_recipe
from starsearch.training import train
from starsearch.tuning.space import BASE_RECIPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training."""

    recipe: str
    seed: int
    top1_percent: float
    epochs: int
    seconds: float


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    architecture, fidelity = what_was_searched(options.study)
    recipes = {"base": load_recipe(options.recipe or fidelity.recipe)}
    recipes["best"] = load_recipe(str(Path(options.study) / BEST_RECIPE))
    data = open_data(options.data)
    rows = []
    for seed in range(options.seeds):
        for name, recipe in recipes.items():
            rows.append(train_once(name, architecture, data, recipe, fidelity, seed))
            print(f"seed {seed} {name}: top-1 {rows[-1].top1_percent:.2f} %, {rows[-1].seconds:.0f} s", flush=True)
    if options.out:
        write(options.out, rows)
    report(rows)


def what_was_searched(study):
    """Architecture and fidelity of the study's base recipe."""
    place = place_of(study)
    found = load_study(place.url, place.name)
    text = found.trials["architecture_text"][found.trials["anchor"] == BASE_RECIPE].iloc[0]
    return parse_architecture(text), found.spec.fidelity


def train_once(name, architecture, data, recipe, fidelity, seed):
    """A whole training."""
    steps = train(
        architecture,
        data=data,
        recipe=recipe,
        fidelity=fidelity,
        seed=seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result = stop.value
            break
    return Row(
        recipe=name, seed=seed, top1_percent=result.top1_percent, epochs=result.epochs, seconds=round(result.seconds, 1)
    )


def report(rows: Sequence[Row]) -> None:
    """Means, standard deviations, and the interval of the difference."""
    values = {name: [row.top1_percent for row in rows if row.recipe == name] for name in ("base", "best")}
    for name, found in values.items():
        spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
        print(f"{name}: top-1 {statistics.mean(found):.2f}{spread} % over {len(found)} seeds")
    differences = [best - base for base, best in zip(values["base"], values["best"], strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        print(f"difference: {mean:+.2f} points, of one seed")
        return
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = float(stats.t.ppf(0.975, df=len(differences) - 1)) * error
    print(f"difference: {mean:+.2f} points, 95 % interval {mean - half:+.2f} to {mean + half:+.2f}")


def write(path, rows):
    """The rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, Row.__slots__)
        writer.writeheader()
        writer.writerows({name: getattr(row, name) for name in Row.__slots__} for row in rows)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder of the recipe search")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe", help="the base recipe, where it was a file; a shipped one is known to the study")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Top-1 of networks trained for equally long from scratch, and from the weights of a trained StarNet-S1.

OMP_NUM_THREADS=1 python studies/warm-start/compare.py --data cifar10/ --out studies/warm-start

Each of three seeds draws its images, trains StarNet-S1 on them, and begins the others with what it learned; the same
images are trained on from scratch as well, for as long and, of the smallest, for as long as both trainings took.
Rows of trainings.csv that are there already are not trained again.
"""

import argparse
import csv
from pathlib import Path

from starsearch.api.networks import resolve
from starsearch.candidate import Candidate
from starsearch.data import open_data
from starsearch.evaluators import ProxyEvaluator
from starsearch.families.text import parse_architecture
from starsearch.progress import follow
from starsearch.recipe import Fidelity
from starsearch.study.recipe_file import load_recipe
from starsearch.training.transfer import compare

GIVEN, GIVEN_EPOCHS, EPOCHS, IMAGES = "starnet_s1", 6, 3, 3_000
TARGETS = ("starnet_s050", "starnet_s150", "starnet_s2")
COLUMNS = ("network", "start", "epochs", "seed", "top1_percent", "seconds")


def train(data, name, *, seed, epochs, given=None, keep=None):
    """Return the readings of one training, by name."""
    fidelity = Fidelity(resolution=32, epochs=epochs, samples=IMAGES, validation_samples=2_000)
    evaluator = ProxyEvaluator(data=data, fidelity=fidelity, weights=given)
    candidate = Candidate(architecture=parse_architecture(name), recipe=load_recipe("proxy"))
    return {one.name: one.value for one in follow(evaluator(candidate, seed=seed, weights=keep))}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data, table = open_data(options.data), options.out / "trainings.csv"
    rows = list(csv.DictReader(table.open())) if table.is_file() else []
    done = {(row["network"], row["start"], int(row["epochs"]), int(row["seed"])) for row in rows}

    def add(name, start, epochs, seed, **how):
        if (name, start, epochs, seed) in done:
            return
        found = train(data, name, seed=seed, epochs=epochs, **how)
        seconds = epochs * IMAGES / found["images_per_second"]
        rows.append(
            dict(
                zip(COLUMNS, (name, start, epochs, seed, f"{found['top1_percent']:.3f}", f"{seconds:.1f}"), strict=True)
            )
        )
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(*rows[-1].values(), flush=True)

    for seed in range(3):
        file = Path(f"/tmp/warm-start-{seed}.safetensors")
        if not file.is_file():
            done.discard((GIVEN, "scratch", GIVEN_EPOCHS, seed))
        add(GIVEN, "scratch", GIVEN_EPOCHS, seed, keep=file)
        given = resolve(str(file)).weights()
        for name in TARGETS:
            hows = {one.how for one in compare(parse_architecture(name), given.state, num_classes=len(data.classes))}
            print(name, sorted(hows), flush=True)
            add(name, GIVEN, EPOCHS, seed, given=given)
            add(name, "scratch", EPOCHS, seed)
    for seed in range(3):
        add(TARGETS[0], "scratch", GIVEN_EPOCHS + EPOCHS, seed)


if __name__ == "__main__":
    main()

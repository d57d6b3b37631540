"""Trials/s of a study whose evaluation does nothing: starsearch's driver against Optuna's own loop.

Both keep their trials in an SQLite file, sample by TPE (multivariate, group), and search the same space by the same
two objectives; Optuna's side is `study.optimize` on a plain `sqlite:///` URL. The two are interleaved, medians count.

    python studies/benchmarks/driver_overhead.py --trials 300 --rounds 3 --out driver_overhead.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import optuna

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.recipe import Fidelity, Recipe
from starsearch.records import StudyRecord, parameter_distributions
from starsearch.search.driver import run_study
from starsearch.search.executor import LocalExecutor
from starsearch.study.space_file import load_space
from starsearch.study.spec import StudySpec

SPACE = Path(__file__).parents[2] / "spaces" / "starnet.yaml"


def main():
    options = read_options()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    for round_number in range(options.rounds):
        for name, run in (("study.optimize", run_optuna), ("starsearch", run_starsearch)):
            with tempfile.TemporaryDirectory() as folder:
                rate = run(Path(folder), options.trials, seed=round_number)
            rows.append({"round": round_number, "driver": name, "trials": options.trials, "trials_per_s": rate})
            print(f"round {round_number}  {name:15} {rate:7.2f} trials/s", flush=True)
    report(rows)
    if options.out:
        write(rows, options.out)


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="CSV file of all rounds")
    return parser.parse_args()


def run_starsearch(folder, trials, seed):
    spec = make_spec(trials, seed)
    record = StudyRecord.open(f"sqlite:///{folder}/study.db", spec)
    started = time.perf_counter()
    ended = run_study(spec, record, LocalExecutor(evaluate))
    seconds = time.perf_counter() - started
    record.close()
    return ended.finished / seconds


def run_optuna(folder, trials, seed):
    """The same space and objectives, suggested and returned as Optuna's tutorial does; duplicates are not avoided."""
    spec = make_spec(trials, seed)
    distributions = parameter_distributions(spec.space.parameters)

    def objective(trial):
        params = {name: suggest(trial, name, distribution) for name, distribution in distributions.items()}
        return values_of(spec.space.decode_architecture(params))

    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db",
        directions=[objective.direction for objective in spec.objectives],
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
    )
    started = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return trials / (time.perf_counter() - started)


def suggest(trial, name, distribution):
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)


def make_spec(trials, seed):
    return StudySpec(
        name="nothing",
        space=load_space(SPACE),
        data="none",
        recipe=Recipe(),
        fidelity=Fidelity(),
        objectives=(
            Objective(name="top1_percent", direction="maximize"),
            Objective(name="macs", direction="minimize"),
        ),
        sampler="tpe",
        trials=trials,
        seed=seed,
    )


def evaluate(candidate, **_options):
    """An evaluator: `starsearch.evaluators.evaluator.Evaluator`."""
    top1, macs = values_of(candidate.architecture)
    yield from ()
    return Measurement(name="top1_percent", value=top1), Measurement(name="macs", value=macs)


def values_of(architecture):
    """Something to trade off, at the cost of nothing: depth and stars against multiply-adds."""
    top1 = sum(architecture.depths) + sum(op == "star" for op in architecture.ops)
    return float(top1), float(count_macs(architecture, resolution=224))


def report(rows):
    rates = {
        name: [row["trials_per_s"] for row in rows if row["driver"] == name]
        for name in dict.fromkeys(r["driver"] for r in rows)
    }
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print("\n| driver | trials/s (median) | min | max |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {medians[name]:.2f} | {min(values):.2f} | {max(values):.2f} |")
    print(f"\nratio of the medians: {medians['starsearch'] / medians['study.optimize']:.2f}")


def write(rows, path):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

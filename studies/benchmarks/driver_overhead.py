"""Trials/s of a study whose evaluation does nothing: starsearch's driver against Optuna's own loop.

Both keep their trials in an SQLite file, sample by TPE (multivariate, group), and search the same space by the same
two objectives; Optuna's side is `study.optimize` on a plain `sqlite:///` URL, which does not avoid duplicates.

    python studies/benchmarks/driver_overhead.py --trials 300 --rounds 3 --out driver_overhead.csv
"""

from __future__ import annotations

import warnings
from functools import partial

import optuna
from harness import by_turns, gate, in_folder, ratio, read_options, seconds, show, summarize, write
from small_study import make_spec, run

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.records.trials import parameter_distributions

OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))


def values_of(architecture):
    """Something to trade off, at the cost of nothing: depth and stars against multiply-adds."""
    top1 = sum(architecture.depths) + sum(op == "star" for op in architecture.ops)
    return float(top1), float(count_macs(architecture, resolution=224))


def evaluate(candidate, **_options):
    yield from ()
    top1, macs = values_of(candidate.architecture)
    return Measurement(name="top1_percent", value=top1), Measurement(name="macs", value=macs)


def ours(trials, seed):
    spec = make_spec("ours", trials, seed=seed, objectives=OBJECTIVES)
    return in_folder(lambda folder: trials / seconds(run, f"sqlite:///{folder}/study.db", spec, evaluate))


def optunas(trials, seed):
    spec = make_spec("peer", trials, seed=seed, objectives=OBJECTIVES)
    distributions = parameter_distributions(spec.space.parameters)

    def objective(trial):
        params = {name: suggest(trial, name, distribution) for name, distribution in distributions.items()}
        return values_of(spec.space.decode_architecture(params))

    def study(folder):
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
        directions = [one.direction for one in spec.objectives]
        found = optuna.create_study(storage=f"sqlite:///{folder}/study.db", directions=directions, sampler=sampler)
        return trials / seconds(partial(found.optimize, objective, n_trials=trials))

    return in_folder(study)


def suggest(trial, name, distribution):
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)


if __name__ == "__main__":
    options = read_options(__doc__, trials=300, rounds=3)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = {"starsearch": partial(ours, options.trials), "study.optimize": partial(optunas, options.trials)}
    rows = by_turns(options.rounds, ways)
    write(rows, options.out)
    show(summarize(rows, "trials/s"))
    gate("starsearch by study.optimize", ratio(rows, "starsearch", "study.optimize"), 2.5)

"""Trials a second with an evaluation that does nothing, beside Ray Tune with OptunaSearch.

    python studies/benchmarks/cluster/throughput.py [--trials 200] [--tune-trials 60] [--rounds 3]

On the same local Ray cluster of as many cores as this machine has, with the same sampler (Optuna's TPE, two
objectives), the same dimensions and storage (SQLite), in turns. Ray Tune writes a study that its OptunaSearch is given;
function trainables, its faster kind under Ray's defaults, and nothing is reported but the result. The first round
warms up.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import warnings
from pathlib import Path

import optuna
import ray

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import by_turns, in_folder, ratio, read_options, seconds, show, summarize, write
from small_study import Sleeper, cluster, make_spec, ray_executor, run


def ours(folder, trials, address):
    spec = make_spec("ours", trials)
    run(f"sqlite:///{folder}/study.db", spec, Sleeper(), make_executor=ray_executor(address, folder))


@functools.cache
def distributions():
    from starsearch.records.trials import parameter_distributions

    return parameter_distributions(make_spec("space", 1).space.parameters)


def define(trial):
    """The space for OptunaSearch, which pickles it after each trial."""
    for name, distribution in distributions().items():
        trial._suggest(name, distribution)


def tune(folder, trials):
    from ray import tune as ray_tune
    from ray.tune.search.optuna import OptunaSearch

    search = OptunaSearch(
        define,
        metric=["top1_percent", "latency_ms"],
        mode=["max", "min"],
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
        storage=optuna.storages.RDBStorage(f"sqlite:///{folder}/tune.db"),
        study_name="tune",
    )
    config = ray_tune.TuneConfig(search_alg=search, num_samples=trials, max_concurrent_trials=os.cpu_count())
    place = ray_tune.RunConfig(storage_path=str(folder), verbose=0)
    evaluate = lambda config: {"top1_percent": random.random(), "latency_ms": random.random()}  # noqa: E731
    ray_tune.Tuner(evaluate, tune_config=config, run_config=place).fit()


def rate(way, trials, number, *arguments):
    trials = trials if number >= 0 else 10
    return in_folder(lambda folder: trials / seconds(way, folder, trials, *arguments))


if __name__ == "__main__":
    options = read_options(__doc__, trials=200, tune_trials=60, rounds=3)
    warnings.simplefilter("ignore")
    with cluster(nodes=1, cpus=os.cpu_count()) as found:
        ray.init(address=found.address, log_to_driver=False)
        ways = {
            "starsearch": lambda number: rate(ours, options.trials, number, found.address),
            "ray.tune": lambda number: rate(tune, options.tune_trials, number),
        }
        rows = by_turns(options.rounds, ways, warm_up=True)
        ray.shutdown()
    write(rows, options.out)
    show(summarize(rows, "trials/s"))
    print(f"starsearch by ray.tune: {ratio(rows, 'starsearch', 'ray.tune'):.1f}")

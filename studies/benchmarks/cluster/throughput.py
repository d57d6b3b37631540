"""Trials a second with an evaluation that does nothing, beside Ray Tune with OptunaSearch.

    python studies/benchmarks/cluster/throughput.py [--trials 200] [--rounds 3] [--out throughput.csv]

On the same local Ray cluster of as many cores as this machine has, with the same sampler (Optuna's TPE, two
objectives), the same dimensions and storage (SQLite), in turns. Ray Tune writes a study that its OptunaSearch is given;
function trainables, its faster kind under Ray's defaults, and nothing is reported but the result. Both start with Ray
running. The first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from small_study import Sleeper, make_spec, ray_executor, run

COLUMNS = ["round", "who", "trials", "seconds", "trials_per_second"]


def ours(folder, trials):
    from starsearch.study.runner_file import RayRunner

    make = ray_executor(RayRunner(), folder)
    run(f"sqlite:///{folder}/study.db", make_spec("ours", trials), Sleeper(0.0), make_executor=make)


@functools.cache
def distributions():
    from starsearch.records import parameter_distributions

    return parameter_distributions(make_spec("space", 1).space.parameters)


def define(trial):
    """The space for OptunaSearch, which pickles it after each trial."""
    for name, distribution in distributions().items():
        trial._suggest(name, distribution)


def tune(folder, trials):
    import optuna
    from ray import tune as ray_tune
    from ray.tune.search.optuna import OptunaSearch

    def evaluate(config):
        return {"top1_percent": random.random(), "latency_ms": random.random()}

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/tune.db")
    search = OptunaSearch(
        define,
        metric=["top1_percent", "latency_ms"],
        mode=["max", "min"],
        sampler=optuna.samplers.TPESampler(multivariate=True, group=True, seed=0),
        storage=storage,
        study_name="tune",
    )
    config = ray_tune.TuneConfig(search_alg=search, num_samples=trials, max_concurrent_trials=os.cpu_count())
    place = ray_tune.RunConfig(storage_path=str(folder), verbose=0)
    ray_tune.Tuner(evaluate, tune_config=config, run_config=place).fit()
    assert len(optuna.load_study(study_name="tune", storage=storage).trials) == trials


@contextmanager
def ray_here():
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def timed(what, trials):
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        what(Path(folder), trials)
        return time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--tune-trials", type=int, default=60, help="fewer, since they take longer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    with ray_here():
        for number in range(options.rounds + 1):
            for who, what, trials in (("starsearch", ours, options.trials), ("ray.tune", tune, options.tune_trials)):
                seconds = timed(what, trials if number else 10)
                if number:
                    rows.append([number, who, trials, f"{seconds:.2f}", f"{trials / seconds:.3f}"])
                    print(*rows[-1], flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    rates = {
        who: statistics.median(float(row[4]) for row in rows if row[1] == who) for who in ("starsearch", "ray.tune")
    }
    ratio = rates["starsearch"] / rates["ray.tune"]
    print(f"trials a second (medians): {rates}; starsearch / ray.tune = {ratio:.1f}")


if __name__ == "__main__":
    main()

"""Trials/s of a study whose evaluation does nothing: starsearch's driver against Optuna's own loop, or Ray Tune's.

All keep their trials in an SQLite file, sample by TPE (multivariate, group), and search the same space by the same two
objectives; Optuna's side is `study.optimize` on a plain `sqlite:///` URL, which does not avoid duplicates. "Public
calls alone" is the least that a driver can do: one suggestion of TPE in memory, a trial's start and end in our storage.

    python studies/benchmarks/driver_overhead.py --trials 200 --out driver_overhead.csv

With `--ray`: on a local Ray cluster of as many cores as this machine has, beside `ray.tune.Tuner` with OptunaSearch and
function trainables, its faster kind under Ray's defaults; nothing is reported but the result. A round warms up.

    python studies/benchmarks/driver_overhead.py --ray --trials 200 --tune-trials 60 --out cluster/throughput.csv
"""

from __future__ import annotations

import functools
import os
import random
import warnings
from contextlib import closing
from functools import partial

import optuna
import sqlalchemy
from harness import by_turns, gate, in_folder, ratio, read_options, seconds, show, summarize, write
from small_study import Sleeper, cluster, judge, make_spec, ray_executor, run

from starsearch.candidate import Candidate
from starsearch.records.record import StudyRecord
from starsearch.records.storage import close_storage, open_storage
from starsearch.records.trials import parameter_distributions

DIRECTIONS = ["maximize", "minimize"]


@functools.cache
def distributions():
    return parameter_distributions(make_spec("space", 1).space.parameters)


def define(trial):
    """The space in Optuna's words; OptunaSearch pickles it after each trial."""
    for name, one in distributions().items():
        if isinstance(one, optuna.distributions.CategoricalDistribution):
            trial.suggest_categorical(name, one.choices)
        else:
            trial.suggest_int(name, one.low, one.high, step=one.step)


def values_of(spec, params):
    candidate = Candidate(architecture=spec.space.decode_architecture(params), recipe=spec.recipe)
    return [one.value for one in judge(candidate)]


def tpe(seed):
    return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


def ours(folder, spec, address=None):
    make_executor = ray_executor(address, folder) if address else None
    run(f"sqlite:///{folder}/study.db", spec, Sleeper(), make_executor)


def floor(folder, spec):
    """The least that public calls of Optuna do for a trial: a suggestion of TPE, its start, its end."""
    mirror = optuna.create_study(directions=DIRECTIONS, sampler=tpe(spec.seed))
    with closing(StudyRecord.open(f"sqlite:///{folder}/study.db", spec)):
        storage = open_storage(f"sqlite:///{folder}/study.db")
        study_id = storage.get_study_id_from_name(spec.name)
        for _ in range(spec.trials):
            asked = mirror.ask(distributions())
            values = values_of(spec, asked.params)
            state = optuna.trial.TrialState.RUNNING
            template = optuna.trial.create_trial(state=state, params=asked.params, distributions=distributions())
            started = storage.create_new_trial(study_id, template)
            mirror.tell(asked, values)
            storage.set_trial_state_values(started, optuna.trial.TrialState.COMPLETE, values)
        close_storage(storage)


def optunas(folder, spec):
    def objective(trial):
        define(trial)
        return values_of(spec, trial.params)

    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", directions=DIRECTIONS, sampler=tpe(spec.seed))
    study.optimize(objective, n_trials=spec.trials)


def tunes(folder, spec):
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    search = OptunaSearch(
        define,
        metric=["top1_percent", "latency_ms"],
        mode=["max", "min"],
        sampler=tpe(spec.seed),
        storage=optuna.storages.RDBStorage(f"sqlite:///{folder}/tune.db"),
        study_name="tune",
    )
    config = tune.TuneConfig(search_alg=search, num_samples=spec.trials, max_concurrent_trials=os.cpu_count())
    evaluate = lambda config: {"top1_percent": random.random(), "latency_ms": random.random()}  # noqa: E731
    tune.Tuner(evaluate, tune_config=config, run_config=tune.RunConfig(storage_path=str(folder), verbose=0)).fit()


def trials_per_second(way, trials, seed):
    """Print its SQL statements a trial as well: unlike time, they are the same on every machine."""
    spec = make_spec("study", trials if seed >= 0 else 10, seed=max(seed, 0))
    statements = []
    count = lambda *_: statements.append(1)  # noqa: E731 — an event's listener
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    found = in_folder(lambda folder: spec.trials / seconds(way, folder, spec))
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)
    print(f"{len(statements) / spec.trials:.1f} SQL statements a trial, ", end="")
    return found


def compare(options, ways, peer, least, *, warm_up):
    rows = by_turns(
        options.rounds, {name: partial(trials_per_second, *way) for name, way in ways.items()}, warm_up=warm_up
    )
    write(rows, options.out)
    show(summarize(rows, "trials/s"))
    for way in ways.keys() - {"starsearch", peer}:
        print(f"{way} by {peer}: {ratio(rows, way, peer):.2f}")
    gate(f"starsearch by {peer}", ratio(rows, "starsearch", peer), least)


if __name__ == "__main__":
    options = read_options(__doc__, trials=300, rounds=3, ray=False, tune_trials=60)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.ray:
        import ray

        with cluster(nodes=1, cpus=os.cpu_count()) as found:
            ray.init(address=found.address, log_to_driver=False)
            ways = {
                "starsearch": (partial(ours, address=found.address), options.trials),
                "ray.tune": (tunes, options.tune_trials),
            }
            compare(options, ways, "ray.tune", 5, warm_up=True)
            ray.shutdown()
    else:
        ways = {"starsearch": ours, "public calls alone": floor, "study.optimize": optunas}
        ways = {name: (way, options.trials) for name, way in ways.items()}
        compare(options, ways, "study.optimize", 2.5, warm_up=False)
